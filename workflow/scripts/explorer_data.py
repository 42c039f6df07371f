"""Gather what the explorer shows of one model, as JSON."""

import argparse
import json
from pathlib import Path

import polars as pl

from selfrepair.core.files import write_atomically
from selfrepair.report.explorer.data import READ, Tables, model_data, to_json
from selfrepair.tokens.tokenizer import decoder

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--facts", type=Path, required=True, help="model.json of fold_model")
parser.add_argument("--measure", choices=["all", "selected"], required=True, help="which tokens were measured")
parser.add_argument("--heads", type=Path, nargs="+", required=True, help="heads.parquet of each kind of ablation")
parser.add_argument("--responders", type=Path, nargs="+", required=True, help="responders.parquet of each kind")
parser.add_argument("--tokens", nargs="+", required=True, help="token rows of all shards, written as KIND=FILE")
parser.add_argument("--sampled", type=Path, required=True, help="tokens.parquet of the run")
parser.add_argument("--selected", type=Path, required=True, help="selected.parquet of the clean pass")
parser.add_argument("--neurons", type=Path, required=True, help="folder with the neurons' frequency and erasure")
parser.add_argument("--tokenizer", type=Path, required=True, help="directory of the model's tokenizer")
parser.add_argument("--seed", type=int, required=True, help="seed of the tokens drawn")
parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
args = parser.parse_args()

files: dict[str, list[str]] = {}
for kind, file in (pair.split("=", 1) for pair in args.tokens):
    files.setdefault(kind, []).append(file)
tables = Tables(
    facts=json.loads(args.facts.read_text()),
    measure=args.measure,
    heads=pl.read_parquet(args.heads),
    responders=pl.read_parquet(args.responders),
    tokens={kind: pl.read_parquet(paths, columns=READ) for kind, paths in files.items()},
    sampled=pl.read_parquet(args.sampled),
    selected=pl.read_parquet(args.selected),
    frequency=pl.read_parquet(args.neurons / "frequency.parquet"),
    erasure=pl.read_parquet(args.neurons / "erasure.parquet"),
)
text = to_json(model_data(tables, decoder(args.tokenizer), args.seed))
write_atomically(args.output, lambda temporary: temporary.write_text(text))
