"""Draw parts of self-repair beside the direct effect before and after ablation, per layer."""

import argparse
from pathlib import Path

import polars as pl

from selfrepair.figures.repair_breakdown import repair_breakdown
from selfrepair.figures.save import save_chart

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--layers", type=Path, nargs="+", required=True, help="layers.parquet of each model")
parser.add_argument("--output", type=Path, nargs="+", required=True, help="files to write: .json .pdf .svg .png .html")
args = parser.parse_args()

save_chart(repair_breakdown(pl.read_parquet(args.layers)), args.output)
