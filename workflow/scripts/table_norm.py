"""Set the parts of the logit's change by three accountings as a table."""

import argparse
from pathlib import Path

import polars as pl

from selfrepair.core.files import write_whole
from selfrepair.core.tables import write_csv
from selfrepair.report.norm_table import norm

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--norm", type=Path, nargs="+", required=True, help="norm.parquet of each model and ablation")
parser.add_argument("--tex", type=Path, required=True, help="LaTeX table to write")
parser.add_argument("--csv", type=Path, required=True, help="CSV file to write")
args = parser.parse_args()

rows, tex = norm(pl.concat([pl.read_parquet(path) for path in args.norm]))
write_whole(args.tex, lambda temporary: temporary.write_text(tex))
write_whole(args.csv, lambda temporary: write_csv(rows, temporary))
