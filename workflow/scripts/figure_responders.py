"""Draw who repairs whom: the response of later layers to ablating the heads of each layer."""

import argparse
from pathlib import Path

import polars as pl

from selfrepair.figures.responders import responders
from selfrepair.figures.save import save_chart

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--responders", type=Path, nargs="+", required=True, help="responders.parquet of each model")
parser.add_argument("--output", type=Path, nargs="+", required=True, help="files to write: .json .pdf .svg .png .html")
args = parser.parse_args()

save_chart(responders(pl.read_parquet(args.responders)), args.output)
