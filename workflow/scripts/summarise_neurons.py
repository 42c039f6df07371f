"""Summarise the neurons of a model that were measured while its chosen heads were ablated."""

import argparse
from dataclasses import fields
from functools import partial
from pathlib import Path

import polars as pl

from selfrepair.analysis.neurons import summarise_neurons
from selfrepair.core.files import write_whole
from selfrepair.core.tables import write_csv, write_parquet
from selfrepair.tokens.tokenizer import decoder

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True, help="name of the model")
parser.add_argument("--neurons", type=Path, required=True, help="folder with tokens, neurons and ranks")
parser.add_argument("--sampled", type=Path, required=True, help="tokens.parquet of the run")
parser.add_argument("--tokenizer", type=Path, required=True, help="directory of the model's tokenizer")
parser.add_argument("--replicates", type=int, required=True, help="replicates of the bootstrap")
parser.add_argument("--seed", type=int, required=True, help="seed of the bootstrap")
parser.add_argument("--output", type=Path, required=True, help="folder for the summaries")
args = parser.parse_args()

measured = [pl.read_parquet(args.neurons / f"{name}.parquet") for name in ("tokens", "neurons", "ranks")]
sampled, decode = pl.read_parquet(args.sampled), decoder(args.tokenizer)
summary = summarise_neurons(args.model, *measured, sampled, decode, args.replicates, args.seed)
for field in fields(summary):
    table = getattr(summary, field.name)
    write_parquet(table, args.output / f"{field.name}.parquet")
    write_whole(args.output / f"{field.name}.csv", partial(write_csv, table))
