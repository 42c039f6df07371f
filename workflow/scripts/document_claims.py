"""Write docs/claims.md: each claim's statistic, tables, rules, figure and tests."""

import argparse
from pathlib import Path

import yaml

from selfrepair.claims.verdicts import Claim
from selfrepair.report.claims_page import claims_page

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--claims", type=Path, default=Path("config/claims.yaml"), help="what the paper claims")
parser.add_argument("--output", type=Path, default=Path("docs/claims.md"), help="file to write")
args = parser.parse_args()

listed = yaml.safe_load(args.claims.read_text())["claims"]
args.output.write_text(claims_page([Claim(**entry) for entry in listed]))
