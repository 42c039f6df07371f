"""Write the explorer of one or several runs as one HTML file that needs no network."""

import argparse
from pathlib import Path

from selfrepair.core.files import write_atomically
from selfrepair.report.explorer.page import page, read_run

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--runs", type=Path, nargs="+", required=True, help="folders of results, such as results/demo")
parser.add_argument("--output", type=Path, required=True, help="HTML file to write")
args = parser.parse_args()

html = page([read_run(folder) for folder in args.runs])
write_atomically(args.output, lambda temporary: temporary.write_text(html))
