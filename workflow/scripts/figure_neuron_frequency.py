"""Draw how often the same neurons repair, one model."""

import argparse
from pathlib import Path

import polars as pl

from selfrepair.figures.neuron_frequency import neuron_frequency
from selfrepair.figures.save import save_chart

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--frequency", type=Path, required=True, help="frequency.parquet of the model's neurons")
parser.add_argument("--output", type=Path, nargs="+", required=True, help="files to write: .json .pdf .svg .png .html")
args = parser.parse_args()

save_chart(neuron_frequency(pl.read_parquet(args.frequency)), args.output)
