"""Draw how much less a head writes when its own output is already in the stream, beside two controls."""

import argparse
from pathlib import Path

import polars as pl

from selfrepair.figures.iterative import self_repression
from selfrepair.figures.save import save_chart

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--repression", type=Path, nargs="+", required=True, help="repression.parquet of each model")
parser.add_argument("--output", type=Path, nargs="+", required=True, help="files to write: .json .pdf .svg .png .html")
args = parser.parse_args()

save_chart(self_repression(pl.read_parquet(args.repression)), args.output)
