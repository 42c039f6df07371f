"""Choose the heads of a model that single-head experiments look at."""

import argparse
from pathlib import Path

import polars as pl

from selfrepair.analysis.chosen_heads import choose_heads
from selfrepair.core.files import write_whole
from selfrepair.core.tables import write_csv
from selfrepair.models.directory import parse_head

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True, help="name of the model")
parser.add_argument("--heads", type=Path, required=True, help="heads.parquet of the resample ablation")
parser.add_argument("--tokens", nargs="+", required=True, help="token rows of all shards of it")
parser.add_argument("--study", nargs="*", default=[], help="heads to take in any case, written as L9H11")
parser.add_argument("--count", type=int, required=True, help="heads to take for their self-repair")
parser.add_argument("--output", type=Path, required=True, help="chosen_heads.csv")
args = parser.parse_args()

columns = ["layer", "head", "control", "direct_effect", "self_repair"]
tokens = pl.read_parquet(args.tokens, columns=columns)
configured = [parse_head(name) for name in args.study]
chosen = choose_heads(args.model, pl.read_parquet(args.heads), tokens, configured, args.count)
write_whole(args.output, lambda temporary: write_csv(chosen, temporary))
