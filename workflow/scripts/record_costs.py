"""Write what the jobs of each rule took: the costs of the report's page as CSV."""

import argparse
import json
from pathlib import Path

from selfrepair.core.files import write_atomically
from selfrepair.core.tables import write_csv
from selfrepair.report.costs import cost_table
from selfrepair.report.html import costs

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--run-record", type=Path, required=True, help="run.json of record_run")
parser.add_argument("--benchmarks", type=Path, nargs="+", required=True, help="benchmark files of Snakemake")
parser.add_argument("--output", type=Path, required=True, help="CSV file to write")
args = parser.parse_args()

spent = costs(args.benchmarks, json.loads(args.run_record.read_text())["jobs"])
write_atomically(args.output, lambda temporary: write_csv(cost_table(spent), temporary))
