"""Write the page of the benchmark, and the README's table, from the benchmark's CSV files."""

import argparse
from pathlib import Path

from selfrepair.benchmark.page import page, readme_with_block
from selfrepair.benchmark.schema import read_tables
from selfrepair.core.files import write_atomically

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--tables", type=Path, required=True, help="folder of the CSV files")
parser.add_argument("--page", type=Path, required=True, help="Markdown file to write")
parser.add_argument("--readme", type=Path, required=True, help="README whose table is written anew")
args = parser.parse_args()

tables = read_tables(args.tables)
readme = readme_with_block(args.readme.read_text(), tables)
write_atomically(args.page, lambda path: path.write_text(page(tables)))
write_atomically(args.readme, lambda path: path.write_text(readme))
