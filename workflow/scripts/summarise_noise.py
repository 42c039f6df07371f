"""Summarise how noisy self-repair is on single tokens, and whose noise it is."""

import argparse
from functools import partial
from pathlib import Path

import polars as pl

from selfrepair.analysis.noise import READ, summarise_noise
from selfrepair.core.files import write_whole
from selfrepair.core.tables import write_csv, write_parquet

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--tokens", nargs="+", required=True, help="token rows of all shards of the resample ablation")
parser.add_argument("--clean", type=Path, required=True, help="tokens.parquet of the clean pass")
parser.add_argument("--partners", type=Path, required=True, help="partners.parquet")
parser.add_argument("--model", required=True, help="name of the model")
parser.add_argument("--replicates", type=int, required=True, help="replicates of the bootstrap")
parser.add_argument("--seed", type=int, required=True, help="seed of the bootstrap")
parser.add_argument("--output", type=Path, required=True, help="folder for noise")
args = parser.parse_args()

n_layers = pl.read_parquet_schema(args.tokens[0])["repair_mlp_by_layer"].size
tokens, partners = pl.read_parquet(args.tokens, columns=READ), pl.read_parquet(args.partners)
documents = pl.read_parquet(args.clean, columns=["document"])["document"].unique().sort().to_numpy()
table = summarise_noise(args.model, n_layers, tokens, partners, documents, args.replicates, args.seed)
write_parquet(table, args.output / "noise.parquet")
write_whole(args.output / "noise.csv", partial(write_csv, table))
