"""Summarise the iterative-inference experiments of a model, and say which way each result points."""

import argparse
from functools import partial
from pathlib import Path

import polars as pl

from selfrepair.analysis.iterative import summarise
from selfrepair.core.files import write_whole
from selfrepair.core.tables import write_csv, write_parquet

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--moves", type=Path, required=True, help="moves.parquet")
parser.add_argument("--additions", type=Path, required=True, help="additions.parquet")
parser.add_argument("--model", required=True, help="name of the model")
parser.add_argument("--replicates", type=int, required=True, help="replicates of the bootstrap")
parser.add_argument("--seed", type=int, required=True, help="seed of the bootstrap")
parser.add_argument("--output", type=Path, required=True, help="folder for the tables")
args = parser.parse_args()

moves, additions = pl.read_parquet(args.moves), pl.read_parquet(args.additions)
found = summarise(args.model, moves, additions, args.replicates, args.seed)
for name in ("moving", "simulated", "repression"):
    write_parquet(getattr(found, name), args.output / f"{name}.parquet")
    write_whole(args.output / f"{name}.csv", partial(write_csv, getattr(found, name)))
write_whole(args.output / "iterative_summary.csv", partial(write_csv, found.summary))
