"""Compute the statistics that decide claims about heads, with their bootstrap intervals."""

import argparse
from functools import partial
from pathlib import Path

import polars as pl

from selfrepair.claims.bootstrap import head_statistics
from selfrepair.core.files import write_whole
from selfrepair.core.tables import write_csv, write_parquet

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--tokens", nargs="+", required=True, help="token rows of all shards")
parser.add_argument("--sums", nargs="+", required=True, help="document sums of all shards")
parser.add_argument("--model", required=True, help="name of the model")
parser.add_argument("--replicates", type=int, required=True, help="replicates of the bootstrap")
parser.add_argument("--seed", type=int, required=True, help="seed of the bootstrap")
parser.add_argument("--output", type=Path, required=True, help="Parquet file; a CSV file is put beside it")
args = parser.parse_args()

tokens, sums = pl.read_parquet(args.tokens), pl.read_parquet(args.sums)
table = head_statistics(args.model, tokens, sums, args.replicates, args.seed)
write_parquet(table, args.output)
write_whole(args.output.with_suffix(".csv"), partial(write_csv, table))
