"""Compare the heads of a run with published per-head results, and recompute statistics of the published ones."""

import argparse
import sys
from pathlib import Path

import polars as pl
import yaml

from selfrepair.claims.published import compare, published_norm_share, published_statistics, read_reference
from selfrepair.core.files import write_atomically
from selfrepair.core.tables import write_csv, write_parquet
from selfrepair.report.tables import norm_share

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--reference", type=Path, required=True, help="CSV file of published per-head results")
parser.add_argument("--heads", type=Path, nargs="+", required=True, help="heads.parquet of each model")
parser.add_argument("--claims", type=Path, required=True, help="config/claims.yaml, which quotes published values")
parser.add_argument("--top-fraction", type=float, required=True, help="share of tokens that are a head's top tokens")
parser.add_argument("--output", type=Path, required=True, help="folder for heads, agreement, models and published")
parser.add_argument("--tex", type=Path, required=True, help="LaTeX table of the norm's share to write")
parser.add_argument("--csv", type=Path, required=True, help="the same as CSV")
args = parser.parse_args()

try:
    published = read_reference(args.reference, args.top_fraction)
except ValueError as problem:
    sys.exit(f"error: {problem}")
tables = {table["model"][0]: table for table in map(pl.read_parquet, args.heads)}
compared, statistics = compare(tables, published), published_statistics(published)
rows, tex = norm_share(published_norm_share(statistics, yaml.safe_load(args.claims.read_text())["claims"]))
write_parquet(compared.heads, args.output / "heads.parquet")
write_parquet(compared.agreement, args.output / "agreement.parquet")
texts = {"agreement": compared.agreement, "models": compared.models, "published": statistics}
files = {args.output / f"{name}.csv": table for name, table in texts.items()} | {args.csv: rows}
for path, table in files.items():
    write_atomically(path, lambda temporary, table=table: write_csv(table, temporary))
write_atomically(args.tex, lambda temporary: temporary.write_text(tex))
