"""Ablate every head of a model, one at a time, in a shard of the rows."""

import argparse
from pathlib import Path

import polars as pl
import torch
from safetensors.torch import load_file

from selfrepair.ablation.clean_run import CleanRun
from selfrepair.ablation.replacements import ABLATIONS
from selfrepair.ablation.selection import MEASURED
from selfrepair.ablation.shard import ablate_heads
from selfrepair.ablation.sweep import all_heads
from selfrepair.core.tables import write_parquet
from selfrepair.models.device import describe_device, job_record, pick_device
from selfrepair.models.directory import parse_head
from selfrepair.models.folded_files import load_folded

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", type=Path, required=True, help="folder of the folded model")
parser.add_argument("--sampled", type=Path, required=True, help="folder with tokens.parquet and rows.parquet")
parser.add_argument("--clean", type=Path, required=True, help="folder of the clean pass")
parser.add_argument("--ablation", choices=ABLATIONS, required=True, help="what a head's output is replaced by")
parser.add_argument("--heads", nargs="*", default=[], help="only these heads, written as L9H11; all if none")
parser.add_argument("--shard", type=int, required=True, help="index of the shard, from 0")
parser.add_argument("--shards", type=int, required=True, help="how many shards there are")
parser.add_argument("--measure", choices=MEASURED, default="all", help="all tokens, or selected and control tokens")
parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
parser.add_argument("--memory", default="auto", help="MB of this job (on a GPU, of the GPU), or auto")
parser.add_argument("--limit", type=int, help="MB that a batch system grants this job")
parser.add_argument("--threads", type=int, default=1, help="CPU threads")
parser.add_argument("--tokens-output", type=Path, required=True, help="Parquet file for the kept token rows")
parser.add_argument("--sums-output", type=Path, required=True, help="Parquet file for the sums over all tokens")
args = parser.parse_args()

torch.set_num_threads(args.threads)
device = pick_device(args.device)
model = load_folded(args.model, device)
tokens, rows = (pl.read_parquet(args.sampled / f"{name}.parquet") for name in ("tokens", "rows"))
clean = CleanRun(
    *(pl.read_parquet(args.clean / f"{name}.parquet") for name in ("tokens", "selected")),
    load_file(args.clean / "means.safetensors")["z"],
)
heads = [parse_head(head) for head in args.heads] or all_heads(model)
memory = None if args.memory == "auto" else int(args.memory)
kept, sums = ablate_heads(
    model, tokens, rows, clean, args.ablation, heads, args.shard, args.shards, args.measure, memory, args.limit
)
write_parquet(kept, args.tokens_output)
write_parquet(sums, args.sums_output, job_record(describe_device(device), model.precision))
