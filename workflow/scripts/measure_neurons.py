"""Measure the neurons of some MLPs while the chosen heads of a model are ablated by resampling."""

import argparse
from pathlib import Path

import polars as pl
import torch

from selfrepair.ablation.neurons import measure_neurons
from selfrepair.analysis.chosen_heads import distinct, read_chosen
from selfrepair.core.tables import write_parquet
from selfrepair.models.device import describe_device, job_record, pick_device
from selfrepair.models.folded_files import load_folded

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", type=Path, required=True, help="folder of the folded model")
parser.add_argument("--sampled", type=Path, required=True, help="folder with tokens.parquet and rows.parquet")
parser.add_argument("--selected", type=Path, required=True, help="selected.parquet of the clean pass")
parser.add_argument("--chosen", type=Path, required=True, help="chosen_heads.csv")
parser.add_argument("--layers", type=int, nargs="+", required=True, help="layers of the MLPs; -1 is the last")
parser.add_argument("--top-fraction", type=float, required=True, help="share of tokens in the set `outcome`")
parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
parser.add_argument("--memory", default="auto", help="MB of this job (on a GPU, of the GPU), or auto")
parser.add_argument("--limit", type=int, help="MB that a batch system grants this job")
parser.add_argument("--threads", type=int, default=1, help="CPU threads")
parser.add_argument("--output", type=Path, required=True, help="folder for tokens, neurons and ranks")
args = parser.parse_args()

torch.set_num_threads(args.threads)
device = pick_device(args.device)
model = load_folded(args.model, device)
tokens, rows = (pl.read_parquet(args.sampled / f"{name}.parquet") for name in ("tokens", "rows"))
heads = distinct(read_chosen(args.chosen))
memory = None if args.memory == "auto" else int(args.memory)
found = measure_neurons(
    model, tokens, rows, pl.read_parquet(args.selected), heads, args.layers, args.top_fraction, memory, args.limit
)
record = job_record(describe_device(device), model.precision)
for name in ("tokens", "neurons", "ranks"):
    write_parquet(getattr(found, name), args.output / f"{name}.parquet", record)
