"""Extrapolate what one million tokens take for each of the paper's models."""

import argparse
from functools import partial
from pathlib import Path

import polars as pl

from selfrepair.benchmark.costs import extrapolate_costs
from selfrepair.benchmark.schema import write_table
from selfrepair.core.files import write_atomically

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--methods", type=Path, required=True, help="CSV file of the methods")
parser.add_argument("--output", type=Path, required=True, help="CSV file to write")
args = parser.parse_args()

write_atomically(args.output, partial(write_table, extrapolate_costs(pl.read_csv(args.methods))))
