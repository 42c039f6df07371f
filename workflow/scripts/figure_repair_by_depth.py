"""Draw self-repair and its parts against relative depth, all models together, in logits and as shares."""

import argparse
from pathlib import Path

import polars as pl

from selfrepair.figures.repair_by_depth import repair_by_depth
from selfrepair.figures.save import save_chart

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--layers", type=Path, nargs="+", required=True, help="layers.parquet of each model")
parser.add_argument("--output", type=Path, nargs="+", required=True, help="files to write: .json .pdf .svg .png .html")
args = parser.parse_args()

save_chart(repair_by_depth(pl.read_parquet(args.layers)), args.output)
