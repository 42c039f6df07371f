"""Draw single tokens of chosen heads: direct effect against the change of the logit, with rates of overcorrection."""

import argparse
from pathlib import Path

import polars as pl

from selfrepair.analysis.chosen_heads import read_chosen
from selfrepair.figures.noise import heads_to_show, noise
from selfrepair.figures.save import save_chart
from selfrepair.figures.token_scatter import READ

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True, help="name of the model")
parser.add_argument("--tokens", nargs="+", required=True, help="token rows of all shards of the resample ablation")
parser.add_argument("--chosen", type=Path, required=True, help="chosen_heads.csv")
parser.add_argument("--noise", type=Path, required=True, help="noise.parquet")
parser.add_argument("--output", type=Path, nargs="+", required=True, help="files to write: .json .pdf .svg .png .html")
args = parser.parse_args()

shown = heads_to_show(read_chosen(args.chosen))
rows = pl.scan_parquet(args.tokens)
tokens = {head: rows.filter(layer=head[0], head=head[1]).select(READ).collect() for head in shown}
save_chart(noise(args.model, shown, tokens, pl.read_parquet(args.noise)), args.output)
