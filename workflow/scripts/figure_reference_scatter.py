"""Draw measured per-head values against published ones."""

import argparse
from pathlib import Path

import polars as pl

from selfrepair.figures.reference_scatter import reference_scatter
from selfrepair.figures.save import save_chart

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--heads", type=Path, required=True, help="heads.parquet of compare_reference")
parser.add_argument("--agreement", type=Path, required=True, help="agreement.parquet of compare_reference")
parser.add_argument("--models", type=Path, required=True, help="models.csv of compare_reference")
parser.add_argument("--output", type=Path, nargs="+", required=True, help="files to write: .json .pdf .svg .png .html")
args = parser.parse_args()

tables = (pl.read_parquet(args.heads), pl.read_parquet(args.agreement), pl.read_csv(args.models))
save_chart(reference_scatter(*tables), args.output)
