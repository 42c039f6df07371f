"""Set the models of a run as a table."""

import argparse
from pathlib import Path

from selfrepair.analysis.overview import read_models, write_models
from selfrepair.core.files import write_whole
from selfrepair.report.tables import models

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--models", type=Path, required=True, help="models.csv of model_overview")
parser.add_argument("--tex", type=Path, required=True, help="LaTeX table to write")
parser.add_argument("--csv", type=Path, required=True, help="CSV file to write")
args = parser.parse_args()

rows, tex = models(read_models(args.models))
write_whole(args.tex, lambda temporary: temporary.write_text(tex))
write_whole(args.csv, lambda temporary: write_models(rows, temporary))
