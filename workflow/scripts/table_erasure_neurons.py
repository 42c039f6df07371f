"""Set the erasure neurons of the chosen heads as a table."""

import argparse
from pathlib import Path

import polars as pl

from selfrepair.core.files import write_whole
from selfrepair.core.tables import write_csv
from selfrepair.report.tables import erasure_neurons

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--erasure", type=Path, nargs="+", required=True, help="erasure.parquet of each model")
parser.add_argument("--tex", type=Path, required=True, help="LaTeX table to write")
parser.add_argument("--csv", type=Path, required=True, help="CSV file to write")
args = parser.parse_args()

rows, tex = erasure_neurons(pl.concat(map(pl.read_parquet, args.erasure)))
write_whole(args.tex, lambda temporary: temporary.write_text(tex))
write_whole(args.csv, lambda temporary: write_csv(rows, temporary))
