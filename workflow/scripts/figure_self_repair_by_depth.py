"""Draw the self-repair of every head against relative depth, all models (the paper's figure 1)."""

import argparse
from pathlib import Path

import polars as pl

from selfrepair.figures.save import save_chart
from selfrepair.figures.self_repair_by_depth import self_repair_by_depth

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--heads", type=Path, nargs="+", required=True, help="heads.parquet of each model")
parser.add_argument("--layers", type=Path, nargs="+", required=True, help="layers.parquet of each model")
parser.add_argument("--unit", default="logits", help="of self-repair")
parser.add_argument("--output", type=Path, nargs="+", required=True, help="files to write: .json .pdf .svg .png .html")
args = parser.parse_args()

chart = self_repair_by_depth(pl.read_parquet(args.heads), pl.read_parquet(args.layers), args.unit)
save_chart(chart, args.output)
