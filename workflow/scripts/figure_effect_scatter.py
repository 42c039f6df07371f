"""Draw the direct effect of every head of a model against the change of the logit when the head is ablated."""

import argparse
from pathlib import Path

import polars as pl

from selfrepair.figures.effect_scatter import effect_scatter
from selfrepair.figures.save import save_chart

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--heads", type=Path, required=True, help="heads.parquet of the model")
parser.add_argument("--output", type=Path, nargs="+", required=True, help="files to write: .json .pdf .svg .png .html")
args = parser.parse_args()

save_chart(effect_scatter(pl.read_parquet(args.heads)), args.output)
