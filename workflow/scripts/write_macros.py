"""Write the numbers of the paper's prose as TeX macros."""

import argparse
import json
from pathlib import Path

import polars as pl

from selfrepair.analysis.overview import read_models
from selfrepair.analysis.wide import read_wide
from selfrepair.core.files import write_atomically
from selfrepair.report.macros import definitions, macros

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--run-record", type=Path, required=True, help="run.json of record_run")
parser.add_argument("--models", type=Path, required=True, help="models.csv of model_overview")
parser.add_argument("--heads", type=Path, nargs="+", required=True, help="heads.parquet of each model")
parser.add_argument("--layers", type=Path, nargs="+", required=True, help="layers.parquet of each model")
parser.add_argument("--claims", type=Path, required=True, help="claims.json of check_claims")
parser.add_argument("--costs", type=Path, required=True, help="costs.csv of record_costs")
parser.add_argument("--output", type=Path, required=True, help="TeX file to write")
args = parser.parse_args()

values = macros(
    json.loads(args.run_record.read_text()),
    read_models(args.models),
    read_wide(args.heads, "top"),
    read_wide(args.layers, "top"),
    json.loads(args.claims.read_text())["claims"],
    pl.read_csv(args.costs),
)
write_atomically(args.output, lambda temporary: temporary.write_text(definitions(values)))
