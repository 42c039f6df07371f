"""Draw how few neurons repair how much of a head's direct effect, one model."""

import argparse
from pathlib import Path

import polars as pl

from selfrepair.figures.neuron_sparsity import neuron_sparsity
from selfrepair.figures.save import save_chart

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--sparsity", type=Path, required=True, help="sparsity.parquet of the model's neurons")
parser.add_argument("--output", type=Path, nargs="+", required=True, help="files to write: .json .pdf .svg .png .html")
args = parser.parse_args()

save_chart(neuron_sparsity(pl.read_parquet(args.sparsity)), args.output)
