"""A finished run in small: tokens, clean pass, ablations and record of a tiny random model, without Snakemake."""

import contextlib
import json
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
from safetensors.torch import save_file

from selfrepair.ablation import ablate_heads
from selfrepair.clean_run import run_clean
from selfrepair.cost_table import cost_table
from selfrepair.crate import METADATA, Sources, run_crate
from selfrepair.models.folded import FoldedModel
from selfrepair.provenance import job_record, run_record
from selfrepair.replacements import ABLATIONS
from selfrepair.report import Cost
from selfrepair.store import write_parquet
from selfrepair.summaries import write_csv
from selfrepair.sweep import all_heads
from selfrepair.tokens import sample_tokens

RUN = Path("results/small")
CONFIG = {"run": "small", "seed": 3, "models": {"m": {"path": "models/m"}}, "precision": "float32"}


def make_project(model: Path) -> None:
    """What a run needs, in the current directory."""
    shutil.copytree(model, "models/m")
    Path("Snakefile").write_text("rule all:\n")
    Path(".gitignore").write_text("results/\n.snakemake/\n")
    Path("config").mkdir()
    Path("config/claims.yaml").write_text("claims: []\n")


def make_results(model: FoldedModel) -> None:
    """What a run measures, in two shards."""
    generator = np.random.default_rng(5)
    texts = [generator.integers(1, 97, size=generator.integers(4, 16)).tolist() for _ in range(30)]
    names = pl.DataFrame({"name": [str(i) for i in range(30)], "kind": ["text"] * 30})
    sampled = sample_tokens(encoded=texts, bos=0, separator=0, documents=names, n_rows=9, row_length=10, seed=1)
    clean = run_clean(model, sampled.tokens, 0.05, 15, seed=2)
    write_parquet(sampled.tokens, RUN / "tokens/m/tokens.parquet")
    write_parquet(sampled.rows, RUN / "tokens/m/rows.parquet")
    write_parquet(clean.tokens, RUN / "ablation/m/clean/tokens.parquet")
    save_file({"z": clean.means}, RUN / "ablation/m/clean/means.safetensors")
    for kind in ABLATIONS:
        for shard in range(2):
            kept, _ = ablate_heads(model, sampled.tokens, sampled.rows, clean, kind, all_heads(model), shard, 2)
            write_parquet(kept, RUN / f"ablation/m/{kind}/tokens-{shard}.parquet")


def make_record() -> dict:
    """What a run says of itself; return the document."""
    (RUN / "report").mkdir(exist_ok=True)
    record = run_record(CONFIG, {"measure_clean.m": job_record("cpu", "float32")}, {}, version("snakemake"))
    (RUN / "report/run.json").write_text(json.dumps(record))
    costs = cost_table([Cost("ablate_heads", 6, 12.5, 11.0, 0.0, 300.25), Cost("fold_model", 1, 1.0, 0.0, 0.0, 0.0)])
    write_csv(costs, RUN / "report/costs.csv")
    (RUN / METADATA).unlink(missing_ok=True)
    files = [path for path in RUN.rglob("*") if path.is_file()]
    inputs = [path for path in (*Path("models").rglob("*"), Path("config/claims.yaml")) if path.is_file()]
    document = run_crate(RUN, record, files, Sources(Path("Snakefile"), inputs, {"m": Path("models/m")}), costs)
    (RUN / METADATA).write_text(json.dumps(document))
    return document


def make_run(zoo: object, root: Path) -> Path:
    """A finished run of the tiny GPT-2 in `root`; return `root`."""
    with contextlib.chdir(root):
        make_project(zoo.folder("gpt2"))
        make_results(zoo.folded("gpt2"))
        make_record()
    return root
