"""Draw the training curves of models, with their final loss and that of a bigram model."""

import argparse
import json
from pathlib import Path

import polars as pl

from selfrepair.figures.save import save_chart
from selfrepair.figures.training_loss import BASELINES, training_loss


def named(pair: str) -> tuple[str, Path]:
    """Split NAME=FILE."""
    name, found, path = pair.partition("=")
    if not (name and found and path):
        raise argparse.ArgumentTypeError(f"{pair!r} is not NAME=FILE")
    return name, Path(path)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument(
    "--logs", type=named, nargs="+", required=True, metavar="NAME=FILE", help="training.csv of each model"
)
parser.add_argument(
    "--summaries", type=named, nargs="+", required=True, metavar="NAME=FILE", help="training.json of each model"
)
parser.add_argument("--output", type=Path, nargs="+", required=True, help="files to write: .json .pdf .svg .png .html")
args = parser.parse_args()

logs = pl.concat(
    [pl.read_csv(path).with_columns(model=pl.lit(name)) for name, path in args.logs], how="vertical_relaxed"
)
summaries = {name: json.loads(path.read_text()) for name, path in args.summaries}
baselines = pl.DataFrame([{"model": name} | {key: s[key] for key in BASELINES} for name, s in summaries.items()])
save_chart(training_loss(logs, baselines), args.output)
