"""Run a model once over all tokens: select every head's top tokens exactly, draw the control sample, average z."""

import argparse
from pathlib import Path

import polars as pl
import torch
from safetensors.torch import save_file

from selfrepair.clean_run import run_clean
from selfrepair.device import pick_device
from selfrepair.models.folded import load_folded
from selfrepair.store import write_parquet, write_whole

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", type=Path, required=True, help="folded model")
parser.add_argument("--tokens", type=Path, required=True, help="tokens.parquet")
parser.add_argument("--top-fraction", type=float, required=True, help="share of tokens selected for each head")
parser.add_argument("--control", type=int, required=True, help="tokens of the control sample")
parser.add_argument("--seed", type=int, required=True, help="seed of the control sample")
parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
parser.add_argument("--threads", type=int, default=1, help="CPU threads")
parser.add_argument("--output", type=Path, required=True, help="folder for tokens, selected and means")
args = parser.parse_args()

torch.set_num_threads(args.threads)
model = load_folded(args.model, pick_device(args.device))
clean = run_clean(model, pl.read_parquet(args.tokens), args.top_fraction, args.control, args.seed)
write_parquet(clean.tokens, args.output / "tokens.parquet")
write_parquet(clean.selected, args.output / "selected.parquet")
write_whole(args.output / "means.safetensors", lambda path: save_file({"z": clean.means}, path))
