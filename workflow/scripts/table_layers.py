"""Set self-repair of each layer and its split as a table."""

import argparse
from pathlib import Path

from selfrepair.analysis.wide import read_wide
from selfrepair.core.files import write_whole
from selfrepair.core.tables import write_csv
from selfrepair.report.tables import layers

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--layers", type=Path, nargs="+", required=True, help="layers.parquet of each model")
parser.add_argument("--tex", type=Path, required=True, help="LaTeX table to write")
parser.add_argument("--csv", type=Path, required=True, help="CSV file to write")
args = parser.parse_args()

rows, tex = layers(read_wide(args.layers, "top"))
write_whole(args.tex, lambda temporary: temporary.write_text(tex))
write_whole(args.csv, lambda temporary: write_csv(rows, temporary))
