"""Draw where the variance of self-repair comes from: documents, tokens, or the rows that replace them."""

import argparse
from pathlib import Path

import polars as pl

from selfrepair.figures.noise import noise_components
from selfrepair.figures.save import save_chart

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--noise", type=Path, nargs="+", required=True, help="noise.parquet of each model")
parser.add_argument("--output", type=Path, nargs="+", required=True, help="files to write: .json .pdf .svg .png .html")
args = parser.parse_args()

save_chart(noise_components(pl.read_parquet(args.noise)), args.output)
