"""Archive the sources of the paper, ready to compile."""

import argparse
from pathlib import Path

from selfrepair.core.files import write_whole
from selfrepair.report.typeset import write_source

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--main", type=Path, required=True, help="main.tex")
parser.add_argument("--bibliography", type=Path, required=True, help="references.bib")
parser.add_argument("--macros", type=Path, required=True, help="macros.tex of write_macros")
parser.add_argument("--tables", type=Path, nargs="+", required=True, help="LaTeX tables")
parser.add_argument("--figures", type=Path, nargs="+", required=True, help="figures as PDF")
parser.add_argument("--output", type=Path, required=True, help="ZIP archive to write")
args = parser.parse_args()

write_whole(
    args.output,
    lambda temporary: write_source(temporary, args.main, args.bibliography, args.macros, args.tables, args.figures),
)
