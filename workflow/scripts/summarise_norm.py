"""Summarise what an ablation does to the final norm: scales, and the split of the logit's change in other orders."""

import argparse
from functools import partial
from pathlib import Path

import polars as pl

from selfrepair.analysis.final_norm import READ, summarise_norm
from selfrepair.core.files import write_whole
from selfrepair.core.tables import write_csv, write_parquet

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--tokens", nargs="+", required=True, help="token rows of all shards")
parser.add_argument("--clean", type=Path, required=True, help="tokens.parquet of the clean pass")
parser.add_argument("--model", required=True, help="name of the model")
parser.add_argument("--ablation", required=True, help="resample, zero or mean")
parser.add_argument("--replicates", type=int, required=True, help="replicates of the bootstrap")
parser.add_argument("--seed", type=int, required=True, help="seed of the bootstrap")
parser.add_argument("--output", type=Path, required=True, help="folder for norm and norm_histogram")
args = parser.parse_args()

n_layers = pl.read_parquet_schema(args.tokens[0])["repair_mlp_by_layer"].size
tokens, clean = pl.read_parquet(args.tokens, columns=READ), pl.read_parquet(args.clean)
summary = summarise_norm(args.model, args.ablation, n_layers, tokens, clean, args.replicates, args.seed)
write_parquet(summary.norm, args.output / "norm.parquet")
write_whole(args.output / "norm.csv", partial(write_csv, summary.norm))
write_parquet(summary.histogram, args.output / "norm_histogram.parquet")
