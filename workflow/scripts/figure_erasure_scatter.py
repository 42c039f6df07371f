"""Draw the neuron that changes most on each token: direct effect before and after, one model."""

import argparse
from pathlib import Path

import polars as pl

from selfrepair.figures.erasure_scatter import erasure_scatter
from selfrepair.figures.save import save_chart

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--tokens", type=Path, required=True, help="tokens.parquet of the model's neurons")
parser.add_argument("--shares", type=Path, required=True, help="shares.parquet of the model's neurons")
parser.add_argument("--output", type=Path, nargs="+", required=True, help="files to write: .json .pdf .svg .png .html")
args = parser.parse_args()

save_chart(erasure_scatter(pl.read_parquet(args.tokens), pl.read_parquet(args.shares)), args.output)
