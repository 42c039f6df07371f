"""Draw what skipping a layer and ablating its strongest head do to the heads of the next layer."""

import argparse
from pathlib import Path

import polars as pl

from selfrepair.figures.iterative import layer_moving
from selfrepair.figures.save import save_chart

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--moving", type=Path, nargs="+", required=True, help="moving.parquet of each model")
parser.add_argument("--output", type=Path, nargs="+", required=True, help="files to write: .json .pdf .svg .png .html")
args = parser.parse_args()

save_chart(layer_moving(pl.read_parquet(args.moving)), args.output)
