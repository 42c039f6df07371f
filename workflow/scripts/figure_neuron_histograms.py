"""Draw shares of repair by MLPs, by five neurons and by one in a hundred, one model."""

import argparse
from pathlib import Path

import polars as pl

from selfrepair.figures.neuron_histograms import neuron_histograms
from selfrepair.figures.save import save_chart

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--histograms", type=Path, required=True, help="histograms.parquet of the model's neurons")
parser.add_argument("--output", type=Path, nargs="+", required=True, help="files to write: .json .pdf .svg .png .html")
args = parser.parse_args()

save_chart(neuron_histograms(pl.read_parquet(args.histograms)), args.output)
