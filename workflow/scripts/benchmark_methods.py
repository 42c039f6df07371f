"""Time the sweep beside patching one head at a time, on models of the paper's sizes with random weights."""

import argparse
from functools import partial
from pathlib import Path

import polars as pl
import torch

from selfrepair.benchmark.compare import compare_methods
from selfrepair.benchmark.machine import describe_machine
from selfrepair.benchmark.random_model import SHAPES
from selfrepair.benchmark.schema import MACHINE, write_table
from selfrepair.core.files import write_atomically
from selfrepair.core.tables import frame

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--models", nargs="+", choices=SHAPES, required=True, help="models whose sizes are taken")
parser.add_argument("--rows", type=int, required=True, help="rows of tokens")
parser.add_argument("--row-length", type=int, required=True, help="tokens of a row")
parser.add_argument("--heads", type=int, required=True, help="heads that the slow methods ablate")
parser.add_argument("--rounds", type=int, required=True, help="rounds, of which times are the median")
parser.add_argument("--threads", type=int, required=True, help="CPU threads")
parser.add_argument("--methods-output", type=Path, required=True, help="CSV file for the methods")
parser.add_argument("--machine-output", type=Path, required=True, help="CSV file for the machine")
args = parser.parse_args()

torch.set_num_threads(args.threads)
sizes = (args.rows, args.row_length, args.heads, args.rounds)
methods = pl.concat([compare_methods(name, SHAPES[name], *sizes) for name in args.models])
machine = frame({name: [value] for name, value in describe_machine().items()}, MACHINE)
write_atomically(args.methods_output, partial(write_table, methods))
write_atomically(args.machine_output, partial(write_table, machine))
