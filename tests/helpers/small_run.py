"""A finished run in small: tokens, clean pass, ablations, statistics, record of tiny random models, no Snakemake."""

import contextlib
import json
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
from safetensors.torch import save_file

from selfrepair.ablation.clean_run import run_clean
from selfrepair.ablation.measured import measured_tokens
from selfrepair.ablation.replacements import ABLATIONS
from selfrepair.ablation.shard import ablate_shard
from selfrepair.analysis.heads import summarise
from selfrepair.artifact.crate import METADATA, Sources, run_crate
from selfrepair.artifact.record import run_record
from selfrepair.core.tables import write_csv, write_parquet
from selfrepair.models.device import job_record
from selfrepair.models.folded import FoldedModel
from selfrepair.models.folded_files import load_folded
from selfrepair.models.load import fold_to_disk
from selfrepair.report.costs import cost_table
from selfrepair.report.html import Cost
from selfrepair.tokens.rows import sample_tokens

RUN = Path("results/small")
CONFIG = {
    "run": "small",
    "seed": 3,
    "models": {"m": {"path": "models/m"}},
    "precision": "float32",
    "analysis": {"top_fraction": 0.05},
    "ablation": {"kinds": list(ABLATIONS), "measure": "all"},
}


def make_project(model: Path) -> None:
    """What a run needs, in the current directory."""
    shutil.copytree(model, "models/m")
    Path("Snakefile").write_text("rule all:\n")
    Path(".gitignore").write_text("results/\n.snakemake/\n")
    Path("config").mkdir()
    Path("config/claims.yaml").write_text("claims: []\n")


def make_results(model: FoldedModel, name: str = "m", kinds: tuple[str, ...] = ABLATIONS, measure: str = "all") -> None:
    """What a run measures of a model, in two shards, and its statistics."""
    generator = np.random.default_rng(5)
    texts = [generator.integers(1, 97, size=generator.integers(4, 16)).tolist() for _ in range(30)]
    names = pl.DataFrame({"name": [str(i) for i in range(30)], "kind": ["text"] * 30})
    sampled = sample_tokens(encoded=texts, bos=0, separator=0, documents=names, n_rows=9, row_length=10, seed=1)
    clean = run_clean(model, sampled.tokens, 0.05, 15, seed=2)
    write_parquet(sampled.tokens, RUN / f"tokens/{name}/tokens.parquet")
    write_parquet(sampled.rows, RUN / f"tokens/{name}/rows.parquet")
    write_parquet(clean.tokens, RUN / f"ablation/{name}/clean/tokens.parquet")
    write_parquet(clean.candidates, RUN / f"ablation/{name}/clean/candidates.parquet")
    write_parquet(clean.selected, RUN / f"ablation/{name}/clean/selected.parquet")
    write_parquet(clean.units, RUN / f"ablation/{name}/clean/units.parquet")
    save_file({"z": clean.means}, RUN / f"ablation/{name}/clean/means.safetensors")
    heads = model.heads
    for kind in kinds:
        measured = measured_tokens(measure, kind)
        shards = [
            ablate_shard(model, sampled.tokens, sampled.rows, clean, kind, heads, shard, 2, measured)
            for shard in range(2)
        ]
        for shard, tables in enumerate(shards):
            for table, rows in zip(("tokens", "sums", "hand_off"), tables, strict=True):
                write_parquet(rows, RUN / f"ablation/{name}/{kind}/{table}-{shard}.parquet")
        kept, sums, _ = (pl.concat(tables) for tables in zip(*shards, strict=True))
        summary = summarise(name, kind, kept, sums, clean.tokens, 0.05, replicates=10, seed=2)
        write_parquet(summary.heads, RUN / f"analysis/{name}/{kind}/heads.parquet")


def make_record(config: dict = CONFIG, models: dict[str, Path] | None = None) -> dict:
    """What a run says of itself, as its files are now; return the document."""
    (RUN / "report").mkdir(exist_ok=True)
    record = run_record(config, {"measure_clean.m": job_record("cpu", config["precision"])}, {}, version("snakemake"))
    (RUN / "report/run.json").write_text(json.dumps(record))
    costs = cost_table([Cost("ablate_heads", 6, 12.5, 11.0, 0.0, 300.25), Cost("fold_model", 1, 1.0, 0.0, 0.0, 0.0)])
    write_csv(costs, RUN / "report/costs.csv")
    (RUN / METADATA).unlink(missing_ok=True)
    files = [path for path in RUN.rglob("*") if path.is_file()]
    inputs = [path for path in Path("models").rglob("*") if path.is_file()]
    inputs += [Path("config/claims.yaml"), Path("Snakefile")]
    models = {"m": Path("models/m")} if models is None else models
    document = run_crate(RUN, record, files, Sources(inputs, models), costs)
    (RUN / METADATA).write_text(json.dumps(document))
    return document


def make_run(
    zoo: object, root: Path, precision: str = "float32", measure: str = "all", kinds: tuple[str, ...] = ABLATIONS
) -> Path:
    """A finished run of the tiny GPT-2 in `root`; return `root`."""
    with contextlib.chdir(root):
        make_project(zoo.folder("gpt2"))
        fold_to_disk(Path("models/m"), "m", root / "folded", precision)
        make_results(load_folded(root / "folded"), kinds=kinds, measure=measure)
        make_record(CONFIG | {"precision": precision, "ablation": {"kinds": list(kinds), "measure": measure}})
    return root
