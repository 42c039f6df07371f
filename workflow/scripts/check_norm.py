"""Check the final norm's part of self-repair: ablate heads with the final scale kept at its clean value."""

import argparse
from pathlib import Path

import polars as pl
import torch
from safetensors.torch import load_file

from selfrepair.ablation.frozen_norm import check_norm, most_repaired
from selfrepair.ablation.replacements import ABLATIONS
from selfrepair.core.files import write_atomically
from selfrepair.core.tables import write_parquet
from selfrepair.models.device import describe_device, job_record, pick_device
from selfrepair.models.folded_files import load_folded

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", type=Path, required=True, help="folder of the folded model")
parser.add_argument("--sampled", type=Path, required=True, help="folder with tokens.parquet and rows.parquet")
parser.add_argument("--means", type=Path, required=True, help="means.safetensors of the clean pass")
parser.add_argument("--measured", type=Path, required=True, help="token rows of a shard")
parser.add_argument("--heads", type=Path, required=True, help="heads.parquet of the ablation")
parser.add_argument("--ablation", choices=ABLATIONS, required=True, help="what a head's output is replaced by")
parser.add_argument("--count", type=int, required=True, help="heads to check: those with the largest self-repair")
parser.add_argument("--rows", type=int, required=True, help="rows of the shard to run anew for each head")
parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
parser.add_argument("--threads", type=int, default=1, help="CPU threads")
parser.add_argument("--output", type=Path, required=True, help="norm_check.parquet; as CSV, too")
args = parser.parse_args()

torch.set_num_threads(args.threads)
device = pick_device(args.device)
model = load_folded(args.model, device)
tokens, rows = (pl.read_parquet(args.sampled / f"{name}.parquet") for name in ("tokens", "rows"))
columns = ["layer", "head", "row", "pos", "selected", "repair_norm"]
measured = pl.read_parquet(args.measured, columns=columns)
heads = most_repaired(pl.read_parquet(args.heads), args.count)
means = load_file(args.means)["z"]
checked = check_norm(model, tokens, rows, measured, args.ablation, heads, args.rows, means)
write_parquet(checked, args.output, job_record(describe_device(device), model.precision))
# Deviations are far below the six decimals of other tables.
write_atomically(args.output.with_suffix(".csv"), lambda temporary: checked.write_csv(temporary, float_precision=9))
print(f"{len(checked)} heads, largest deviation: {checked['largest_deviation'].max() or 0:.1e} logits", flush=True)
