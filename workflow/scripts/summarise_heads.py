"""Summarise the ablation of a model's heads: per head, per layer, and which later layers respond."""

import argparse
from functools import partial
from pathlib import Path

import polars as pl

from selfrepair.analysis.heads import summarise
from selfrepair.core.files import write_whole
from selfrepair.core.tables import write_csv, write_parquet

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--tokens", nargs="+", required=True, help="token rows of all shards")
parser.add_argument("--sums", nargs="+", required=True, help="document sums of all shards")
parser.add_argument("--model", required=True, help="name of the model")
parser.add_argument("--ablation", required=True, help="resample, zero or mean")
parser.add_argument("--replicates", type=int, required=True, help="replicates of the bootstrap")
parser.add_argument("--seed", type=int, required=True, help="seed of the bootstrap")
parser.add_argument("--output", type=Path, required=True, help="folder for heads, layers and responders")
args = parser.parse_args()

tokens, sums = pl.read_parquet(args.tokens), pl.read_parquet(args.sums)
summary = summarise(args.model, args.ablation, tokens, sums, args.replicates, args.seed)
for name in ("heads", "layers", "responders"):
    table = getattr(summary, name)
    write_parquet(table, args.output / f"{name}.parquet")
    write_whole(args.output / f"{name}.csv", partial(write_csv, table))
