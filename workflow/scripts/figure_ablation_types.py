"""Draw single tokens of a head of the last layer under each kind of ablation."""

import argparse
from pathlib import Path

import polars as pl

from selfrepair.figures.ablation_types import ablation_types, head_to_show
from selfrepair.figures.save import save_chart
from selfrepair.figures.token_scatter import READ

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True, help="name of the model")
parser.add_argument("--tokens", nargs="+", required=True, help="token rows of all shards, written as KIND=FILE")
parser.add_argument("--heads", type=Path, required=True, help="heads.parquet of the resample ablation")
parser.add_argument("--output", type=Path, nargs="+", required=True, help="files to write: .json .pdf .svg .png .html")
args = parser.parse_args()

layer, head = head_to_show(pl.read_parquet(args.heads))
files: dict[str, list[str]] = {}
for kind, file in (pair.split("=", 1) for pair in args.tokens):
    files.setdefault(kind, []).append(file)
tokens = {
    kind: pl.scan_parquet(paths).filter(layer=layer, head=head).select(READ).collect() for kind, paths in files.items()
}
save_chart(ablation_types(args.model, (layer, head), tokens), args.output)
