"""Measure memory and time of folding a random Llama to disk and of loading it, in float32 and in bfloat16."""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import polars as pl

from selfrepair.benchmark.loading import measure_loading
from selfrepair.benchmark.random_model import Shape
from selfrepair.benchmark.schema import LOADING, write_table
from selfrepair.core.files import write_atomically
from selfrepair.core.tables import frame

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--layers", type=int, default=24, help="layers")
parser.add_argument("--heads", type=int, default=16, help="attention heads of a layer")
parser.add_argument("--d-model", type=int, default=2048, help="width of the residual stream")
parser.add_argument("--d-mlp", type=int, default=5504, help="neurons of a layer")
parser.add_argument("--d-vocab", type=int, default=32000, help="size of the vocabulary")
parser.add_argument("--output", type=Path, required=True, help="CSV file to write")
args = parser.parse_args()

shape = Shape("llama", args.layers, args.heads, args.d_model, args.d_mlp, args.d_vocab, max_positions=2048)
with tempfile.TemporaryDirectory() as folder:
    rows = measure_loading(shape, ["float32", "bfloat16"], Path(folder))
write_atomically(args.output, partial(write_table, frame(pl.DataFrame(rows).to_dict(), LOADING)))
