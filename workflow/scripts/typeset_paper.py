"""Typeset the paper with latexmk or tectonic, whichever is there."""

import argparse
import sys
from pathlib import Path

from selfrepair.core.files import write_whole
from selfrepair.report.typeset import TypesetError, typeset

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--source", type=Path, required=True, help="ZIP archive of paper_source")
parser.add_argument("--output", type=Path, required=True, help="PDF file to write")
args = parser.parse_args()

try:
    write_whole(args.output, lambda temporary: typeset(args.source, temporary))
except TypesetError as error:
    sys.exit(f"typeset_paper: {error}")
