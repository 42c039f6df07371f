"""Write results/README.md: every file of a run, and every column of its tables with type, unit and meaning."""

import argparse
from pathlib import Path

from selfrepair.report.documentation import results_readme

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--output", type=Path, default=Path("results/README.md"), help="file to write")
args = parser.parse_args()

args.output.write_text(results_readme())
