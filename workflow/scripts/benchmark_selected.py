"""Time the measurement of selected tokens beside that of all tokens, on a run's tokens and models."""

import argparse
from functools import partial
from pathlib import Path

import polars as pl
import torch

from selfrepair.benchmark.schema import SELECTED, write_table
from selfrepair.benchmark.selected import selected_gain
from selfrepair.core.files import write_atomically
from selfrepair.core.tables import frame
from selfrepair.models.folded_files import load_folded

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--models", type=Path, nargs="+", required=True, help="folded models")
parser.add_argument("--sampled", type=Path, nargs="+", required=True, help="folder with tokens and rows for each")
parser.add_argument("--top-fraction", type=float, required=True, help="share of tokens selected for each head")
parser.add_argument("--control", type=int, required=True, help="tokens of the control sample")
parser.add_argument("--seed", type=int, required=True, help="seed of the control sample")
parser.add_argument("--shards", type=int, required=True, help="of the run's shards the first is measured")
parser.add_argument("--rounds", type=int, required=True, help="rounds, of which times are the median")
parser.add_argument("--threads", type=int, required=True, help="CPU threads")
parser.add_argument("--output", type=Path, required=True, help="CSV file to write")
args = parser.parse_args()

torch.set_num_threads(args.threads)
options = (args.top_fraction, args.control, args.seed, args.shards, args.rounds)
found = []
for folder, sampled in zip(args.models, args.sampled, strict=True):
    tokens, rows = (pl.read_parquet(sampled / f"{name}.parquet") for name in ("tokens", "rows"))
    found.append(selected_gain(load_folded(folder), tokens, rows, *options))
write_atomically(args.output, partial(write_table, frame(pl.DataFrame(found).to_dict(), SELECTED)))
