"""Write the report of a run as one HTML file."""

import argparse
import json
from pathlib import Path

import yaml

from selfrepair.analysis.overview import read_models
from selfrepair.core.files import write_atomically
from selfrepair.report.html import costs, figure, report, shown

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--run-record", type=Path, required=True, help="run.json of record_run")
parser.add_argument("--models", type=Path, required=True, help="models.csv of model_overview")
parser.add_argument("--claims", type=Path, required=True, help="claims.json of check_claims")
parser.add_argument("--captions", type=Path, required=True, help="captions by kind of figure and table, YAML")
parser.add_argument("--figures", type=Path, nargs="+", required=True, help="SVG files, in the order of the report")
parser.add_argument("--tables", type=Path, nargs="+", required=True, help="CSV files; same name, same table")
parser.add_argument("--benchmarks", type=Path, nargs="*", default=[], help="benchmark files of Snakemake")
parser.add_argument("--output", type=Path, required=True, help="HTML file to write")
args = parser.parse_args()

captions = yaml.safe_load(args.captions.read_text())
record = json.loads(args.run_record.read_text())
html = report(
    record,
    read_models(args.models),
    json.loads(args.claims.read_text())["claims"],
    [figure(path, captions) for path in args.figures],
    shown(args.tables, captions),
    costs(args.benchmarks, record["jobs"]),
)
write_atomically(args.output, lambda temporary: temporary.write_text(html))
