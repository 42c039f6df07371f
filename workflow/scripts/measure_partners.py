"""Ablate the chosen heads of a model in some rows, once with each of several resample partners."""

import argparse
from pathlib import Path

import polars as pl
import torch

from selfrepair.ablation.partners import measure_partners
from selfrepair.analysis.chosen_heads import distinct, read_chosen
from selfrepair.core.tables import write_parquet
from selfrepair.models.device import describe_device, job_record, pick_device
from selfrepair.models.folded_files import load_folded

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", type=Path, required=True, help="folder of the folded model")
parser.add_argument("--sampled", type=Path, required=True, help="folder with tokens.parquet and rows.parquet")
parser.add_argument("--selected", type=Path, required=True, help="selected.parquet of the clean pass")
parser.add_argument("--heads", type=Path, required=True, help="chosen_heads.csv")
parser.add_argument("--partners", type=int, required=True, help="partners of each row, the run's own included")
parser.add_argument("--rows", type=int, required=True, help="rows to measure, spread over the run's")
parser.add_argument("--seed", type=int, required=True, help="seed of the run")
parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
parser.add_argument("--memory", default="auto", help="MB of this job (on a GPU, of the GPU), or auto")
parser.add_argument("--limit", type=int, help="MB that a batch system grants this job")
parser.add_argument("--threads", type=int, default=1, help="CPU threads")
parser.add_argument("--output", type=Path, required=True, help="Parquet file to write")
args = parser.parse_args()

torch.set_num_threads(args.threads)
device = pick_device(args.device)
model = load_folded(args.model, device)
tokens, rows = (pl.read_parquet(args.sampled / f"{name}.parquet") for name in ("tokens", "rows"))
selected, heads = pl.read_parquet(args.selected), distinct(read_chosen(args.heads))
memory = None if args.memory == "auto" else int(args.memory)
table = measure_partners(model, tokens, rows, selected, heads, args.partners, args.rows, args.seed, memory, args.limit)
write_parquet(table, args.output, job_record(describe_device(device), model.precision))
