"""Judge the paper's claims from the summaries of a run."""

import argparse
import json
from pathlib import Path

import jsonschema
import yaml

from selfrepair.analysis.overview import read_models
from selfrepair.claims.statistics import complete, read_tables
from selfrepair.claims.verdicts import Claim, evaluate
from selfrepair.core.files import write_atomically
from selfrepair.core.tables import write_csv
from selfrepair.report.tables import claims as claims_table

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--claims", type=Path, required=True, help="config/claims.yaml")
parser.add_argument("--schema", type=Path, required=True, help="workflow/schemas/claims.schema.yaml")
parser.add_argument("--models", type=Path, required=True, help="models.csv of model_overview")
parser.add_argument("--analyses", type=Path, nargs="+", required=True, help="folder of each model's analysis")
parser.add_argument("--json", type=Path, required=True, help="verdicts to write")
parser.add_argument("--tex", type=Path, required=True, help="LaTeX table to write")
parser.add_argument("--csv", type=Path, required=True, help="CSV file to write")
args = parser.parse_args()

listed = yaml.safe_load(args.claims.read_text())
jsonschema.validate(listed, yaml.safe_load(args.schema.read_text()))
models = read_models(args.models)
run = complete(models, [read_tables(folder) for folder in args.analyses])
parallel = dict(models.select("model", "parallel").rows())
judged = evaluate([Claim(**entry) for entry in listed["claims"]], run, parallel)
rows, tex = claims_table(judged)
text = json.dumps({"claims": judged}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
write_atomically(args.json, lambda temporary: temporary.write_text(text))
write_atomically(args.tex, lambda temporary: temporary.write_text(tex))
write_atomically(args.csv, lambda temporary: write_csv(rows, temporary))
