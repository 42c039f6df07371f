"""How long a run will take: some rows of each model are ablated and timed, and the work of all is counted."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

from selfrepair.ablation.clean_run import CleanRun, read_clean
from selfrepair.ablation.inputs import read_inputs
from selfrepair.ablation.program import Machine, read_sampled
from selfrepair.ablation.selection import MEASURED
from selfrepair.ablation.shard import ShardRecorder, ablate_shard, shard_rows
from selfrepair.models.directory import parse_head
from selfrepair.models.folded import FoldedModel

BESIDE = 1.25  # what else is measured takes about a quarter of what ablation takes
UNITS = "units-"
STUDIES = 4  # times what ablation takes in a row: gradient estimates and losses
TIMED = 50_000  # ablated tokens that are timed of a model, or those of one row
SHARD = 300  # seconds of one job that ablates
JOB = 3.5  # seconds that a job takes beside that: its imports, its tables, its figures


def estimate_run(
    models: list[Path],
    sampled: list[Path],
    clean: list[Path],
    measured: list[str],
    heads: list[str],
    study_rows: int,
    distribution_rows: int,
    jobs: int,
    cores: int,
    memory_mb: int,
    output: Path,
    machine: Machine = Machine(),
) -> None:
    """Print and write about how long a run takes, and how much memory its jobs hold.

    Args:
        models: folders of the folded models.
        sampled: folder of each model's tokens.
        clean: folder of each model's clean pass.
        measured: what is ablated, as NAME=all or NAME=selected, once for each kind of ablation; of units
            NAME=units-all.
        heads: those of a model that are measured, as NAME=L9H11; all if none.
        study_rows: rows in which the costly studies ablate all of these.
        distribution_rows: rows of all distributions together.
        jobs: of the whole run.
        cores: on which it will run.
        memory_mb: of the largest job.
        output: text file to write.
    """
    total, shard = 0.0, float("inf")
    for folder, tokens, of_clean in zip(models, sampled, clean, strict=True):
        name = tokens.name
        kinds = [kind for of, kind in (pair.split("=") for pair in measured) if of == name]
        model, _ = machine.load(folder)
        named = [parse_head(head) for of, head in (pair.split("=") for pair in heads) if of == name]
        kept = read_clean(of_clean)
        seconds, of_row = _ablation(model, tokens, kept, named or model.heads, kinds)
        total += sum(seconds) + (STUDIES * study_rows + distribution_rows) * of_row
        shard = min([shard, *(kept.tokens.height * SHARD / of_kind for of_kind in seconds)])
    total = (BESIDE * total + JOB * jobs) / cores
    said = f"about {_duration(total)} with {cores} jobs at a time, of at most {memory_mb / 1000:.1f} GB each"
    if math.isfinite(shard):
        said += f"; with tokens_per_shard: {float(f'{shard:.2g}'):.0f} a kill loses five minutes at most"
    output.write_text(said + "\n")
    print(said)


def _ablation(
    model: FoldedModel, sampled: Path, clean: CleanRun, heads: list[tuple[int, int]], kinds: Sequence[str]
) -> tuple[list[float], float]:
    """Seconds that one core ablates heads, or units, in all rows, for each entry of `kinds`; and heads in one row."""
    tables = read_sampled(sampled)
    documents = read_inputs(*tables).documents
    timed = max(1, min(8, len(documents), TIMED // (len(heads) * documents.shape[1])))
    shards = len(documents) // timed

    def work(shard: int, of: int, kind: str) -> int:
        chosen = shard_rows(len(documents), shard, of)
        units = sorted(clean.units.select("layer", "head").unique().rows()) if kind.startswith(UNITS) else []
        named, jobs = (units, [(layer, i) for i, (layer, _) in enumerate(units)]) if units else (heads, heads)
        ranked = clean.of_units() if units else clean
        recorder = ShardRecorder(ranked, named, jobs, chosen, documents[chosen], model.n_layers)
        measured = MEASURED[MEASURED.index(kind.removeprefix(UNITS))]
        return recorder.jobs(measured).block_passes(model.n_layers)

    clock = time.perf_counter if model.device.type == "cuda" else time.process_time  # other work shall not count
    ablate_shard(model, *tables, clean, "resample", heads[:1], 0, shards, "all")  # the first pass takes longer
    start = clock()
    ablate_shard(model, *tables, clean, "resample", heads, 0, shards, "all")
    rate = work(0, shards, "all") / (clock() - start)
    return [work(0, 1, kind) / rate for kind in kinds], work(0, 1, "all") / rate / len(documents)


def _duration(seconds: float) -> str:
    hours, minutes = divmod(max(1, round(seconds / 60)), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
