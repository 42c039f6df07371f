"""Compare number formats on trained models, and on one of GPT-2 small's shape with random weights."""

import argparse
from functools import partial
from pathlib import Path

import polars as pl
import torch

from selfrepair.benchmark.precision import compare_precisions
from selfrepair.benchmark.random_model import SHAPES, random_folded, random_rows, row_before
from selfrepair.benchmark.schema import write_table
from selfrepair.core.files import write_atomically
from selfrepair.models.folded_files import load_folded
from selfrepair.tokens.rows import token_matrix

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--models", type=Path, nargs="+", required=True, help="folded models")
parser.add_argument("--tokens", type=Path, nargs="+", required=True, help="tokens.parquet for each of them")
parser.add_argument("--rows", type=int, required=True, help="rows of tokens for the trained models")
parser.add_argument("--random", choices=SHAPES, required=True, help="size of the model with random weights")
parser.add_argument("--random-rows", type=int, required=True, help="rows of tokens for it")
parser.add_argument("--threads", type=int, required=True, help="CPU threads")
parser.add_argument("--output", type=Path, required=True, help="CSV file to write")
args = parser.parse_args()

torch.set_num_threads(args.threads)
tables = []
for folder, file in zip(args.models, args.tokens, strict=True):
    tokens = torch.from_numpy(token_matrix(pl.read_parquet(file)))[: args.rows]
    tables.append(compare_precisions(load_folded(folder), tokens, row_before(len(tokens)), "trained"))
shape = SHAPES[args.random]
rows = random_rows(shape.d_vocab, args.random_rows, tokens.shape[1])
tables.append(compare_precisions(random_folded(args.random, shape), rows, row_before(len(rows)), "random"))
write_atomically(args.output, partial(write_table, pl.concat(tables)))
