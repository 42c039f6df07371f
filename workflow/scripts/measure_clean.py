"""Run a model once over all tokens: select every head's top tokens exactly, draw the control sample, average z."""

import argparse
from pathlib import Path

import polars as pl
import torch
from safetensors.torch import save_file

from selfrepair.ablation.clean_run import run_clean
from selfrepair.ablation.selection import MEASURED
from selfrepair.core.files import write_atomically
from selfrepair.core.tables import write_parquet
from selfrepair.models.device import describe_device, job_record, pick_device
from selfrepair.models.folded_files import load_folded

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", type=Path, required=True, help="folder of the folded model")
parser.add_argument("--tokens", type=Path, required=True, help="tokens.parquet")
parser.add_argument("--top-fraction", type=float, required=True, help="share of tokens selected for each head")
parser.add_argument("--control", type=int, required=True, help="tokens of the control sample")
parser.add_argument("--measure", choices=MEASURED, default="all", help="selected: a control sample of whole rows")
parser.add_argument("--seed", type=int, required=True, help="seed of the control sample")
parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
parser.add_argument("--threads", type=int, default=1, help="CPU threads")
parser.add_argument("--output", type=Path, required=True, help="folder for tokens, selected and means")
args = parser.parse_args()

torch.set_num_threads(args.threads)
device = pick_device(args.device)
model = load_folded(args.model, device)
clean = run_clean(
    model, pl.read_parquet(args.tokens), args.top_fraction, args.control, args.seed, args.measure == "selected"
)
write_parquet(clean.tokens, args.output / "tokens.parquet", job_record(describe_device(device), model.precision))
write_parquet(clean.selected, args.output / "selected.parquet")
write_atomically(args.output / "means.safetensors", lambda path: save_file({"z": clean.means}, path))
