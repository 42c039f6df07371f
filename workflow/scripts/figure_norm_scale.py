"""Draw histograms of the ratio of the final norm's clean and ablated scale, for some heads of the last layer."""

import argparse
from pathlib import Path

import polars as pl

from selfrepair.analysis.chosen_heads import read_chosen
from selfrepair.figures.norm_scale import heads_to_show, norm_scale
from selfrepair.figures.save import save_chart

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--norm", type=Path, nargs="+", required=True, help="norm.parquet of each kind of ablation")
parser.add_argument("--histograms", type=Path, nargs="+", required=True, help="norm_histogram.parquet of each kind")
parser.add_argument("--heads", type=Path, required=True, help="heads.parquet of the resample ablation")
parser.add_argument("--chosen", type=Path, required=True, help="chosen_heads.csv")
parser.add_argument("--output", type=Path, nargs="+", required=True, help="files to write: .json .pdf .svg .png .html")
args = parser.parse_args()

configured = read_chosen(args.chosen).filter(reason="configured").select("layer", "head").rows()
shown = heads_to_show(pl.read_parquet(args.heads), configured)
save_chart(norm_scale(pl.read_parquet(args.norm), pl.read_parquet(args.histograms), shown), args.output)
