"""Draw cumulative share of the neurons' changes by rank, and what the neurons of a rank do, one model."""

import argparse
from pathlib import Path

import polars as pl

from selfrepair.figures.neuron_cumulative import neuron_cumulative
from selfrepair.figures.save import save_chart

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--cumulative", type=Path, required=True, help="cumulative.parquet of the model's neurons")
parser.add_argument("--output", type=Path, nargs="+", required=True, help="files to write: .json .pdf .svg .png .html")
args = parser.parse_args()

save_chart(neuron_cumulative(pl.read_parquet(args.cumulative)), args.output)
