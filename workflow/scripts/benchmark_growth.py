"""Time the sweep as layers, heads, tokens and the length of rows grow."""

import argparse
from functools import partial
from pathlib import Path

import torch

from selfrepair.benchmark.growth import measure_growth, points
from selfrepair.benchmark.schema import write_table
from selfrepair.core.files import write_atomically

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--rounds", type=int, required=True, help="rounds, of which times are the median")
parser.add_argument("--threads", type=int, required=True, help="CPU threads")
parser.add_argument("--output", type=Path, required=True, help="CSV file to write")
args = parser.parse_args()

torch.set_num_threads(args.threads)
write_atomically(args.output, partial(write_table, measure_growth(points(), args.rounds)))
