"""Judge the paper's claims from the summaries of a run."""

import argparse
import json
from pathlib import Path

import jsonschema
import polars as pl
import yaml

from selfrepair.claim_statistics import complete, tables
from selfrepair.claims import Claim, evaluate
from selfrepair.overview import read_models
from selfrepair.store import write_whole
from selfrepair.summaries import write_csv
from selfrepair.tables import claims as claims_table

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--claims", type=Path, required=True, help="config/claims.yaml")
parser.add_argument("--schema", type=Path, required=True, help="workflow/schemas/claims.schema.yaml")
parser.add_argument("--models", type=Path, required=True, help="models.csv of model_overview")
parser.add_argument("--heads", type=Path, nargs="+", required=True, help="heads.parquet of each model")
parser.add_argument("--layers", type=Path, nargs="+", required=True, help="layers.parquet of each, same order")
parser.add_argument("--json", type=Path, required=True, help="verdicts to write")
parser.add_argument("--tex", type=Path, required=True, help="LaTeX table to write")
parser.add_argument("--csv", type=Path, required=True, help="CSV file to write")
args = parser.parse_args()

listed = yaml.safe_load(args.claims.read_text())
jsonschema.validate(listed, yaml.safe_load(args.schema.read_text()))
pairs = zip(map(pl.read_parquet, args.heads), map(pl.read_parquet, args.layers), strict=True)
models = read_models(args.models)
run = complete(models, [tables(heads, layers) for heads, layers in pairs])
parallel = dict(models.select("model", "parallel").rows())
judged = evaluate([Claim(**entry) for entry in listed["claims"]], run, parallel)
rows, tex = claims_table(judged)
text = json.dumps({"claims": judged}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
write_whole(args.json, lambda temporary: temporary.write_text(text))
write_whole(args.tex, lambda temporary: temporary.write_text(tex))
write_whole(args.csv, lambda temporary: write_csv(rows, temporary))
