"""Skip layers, and add heads' own outputs to what they read: the iterative-inference experiments, exploratory."""

import argparse
from pathlib import Path

import polars as pl
import torch

from selfrepair.ablation.iterative import RECEIVERS, measure_moves, measure_repression, strongest_heads
from selfrepair.core.tables import write_parquet
from selfrepair.models.device import describe_device, job_record, pick_device
from selfrepair.models.directory import parse_head
from selfrepair.models.folded_files import load_folded

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", type=Path, required=True, help="folder of the folded model")
parser.add_argument("--sampled", type=Path, required=True, help="folder with tokens.parquet and rows.parquet")
parser.add_argument("--clean", type=Path, required=True, help="folder of the clean pass")
parser.add_argument("--heads", nargs="*", default=[], help="repress none but these, written as L9H11; any if none")
parser.add_argument("--strengths", type=float, nargs="+", required=True, help="factors of what is added")
parser.add_argument("--count", type=int, required=True, help="top tokens of each head at which something is added")
parser.add_argument("--seed", type=int, required=True, help="seed of tokens, other heads and random directions")
parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
parser.add_argument("--threads", type=int, default=1, help="CPU threads")
parser.add_argument("--output", type=Path, required=True, help="folder for moves and additions")
args = parser.parse_args()

torch.set_num_threads(args.threads)
device = pick_device(args.device)
model = load_folded(args.model, device)
tokens, rows = (pl.read_parquet(args.sampled / f"{name}.parquet") for name in ("tokens", "rows"))
clean_tokens, selected = (pl.read_parquet(args.clean / f"{name}.parquet") for name in ("tokens", "selected"))
allowed = set(map(parse_head, args.heads))
receivers = [head for head in strongest_heads(selected) if not allowed or head in allowed][:RECEIVERS]
moves = measure_moves(model, tokens, rows, selected)
additions = measure_repression(model, tokens, clean_tokens, selected, receivers, args.strengths, args.count, args.seed)
record = job_record(describe_device(device), model.precision)
write_parquet(moves, args.output / "moves.parquet", record)
write_parquet(additions, args.output / "additions.parquet", record)
