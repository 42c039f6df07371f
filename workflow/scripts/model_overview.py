"""Gather the facts about the models of a run into one table."""

import argparse
import json
from pathlib import Path

import polars as pl

from selfrepair.analysis.overview import overview, write_models
from selfrepair.core.files import write_whole

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model-facts", type=Path, nargs="+", required=True, help="model.json of each model")
parser.add_argument("--heads", type=Path, nargs="+", required=True, help="heads.parquet of each model")
parser.add_argument("--summaries", nargs="*", default=[], metavar="NAME=FILE", help="training.json of a model")
parser.add_argument("--output", type=Path, required=True, help="models.csv")
args = parser.parse_args()

facts = [json.loads(path.read_text()) for path in args.model_facts]
heads = {table["model"][0]: table for table in map(pl.read_parquet, args.heads)}
paths = dict(item.split("=", 1) for item in args.summaries)
summaries = {name: json.loads(Path(path).read_text()) for name, path in paths.items()}
table = overview(facts, heads, summaries)
write_whole(args.output, lambda temporary: write_models(table, temporary))
