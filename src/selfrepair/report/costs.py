"""What the jobs of each rule of a run took, as a table: the figures of the report's page in a file."""

import json
from dataclasses import astuple
from pathlib import Path

import polars as pl

from selfrepair.core.tables import Column, frame
from selfrepair.report.html import Cost, costs

COSTS = {
    "rule": Column(pl.String, "", "name of the rule"),
    "jobs": Column(pl.Int64, "jobs", "how many jobs of it ran"),
    "wall_time": Column(pl.Float64, "s", "their wall-clock time, added up"),
    "cpu_time": Column(pl.Float64, "s", "their processor time, added up; 0 for jobs too short to be sampled"),
    "gpu_time": Column(pl.Float64, "s", "how long they held a GPU, added up"),
    "memory": Column(pl.Float64, "MiB", "resident memory of the largest job; 0 for jobs too short to be sampled"),
}


def costs_of_files(run_record: Path, listed: Path) -> pl.DataFrame:
    """What the jobs of each rule took (`COSTS`), by Snakemake's benchmark files.

    Args:
        run_record: run.json of record_run.
        listed: JSON file with the paths of the benchmark files, `benchmarks`.
    """
    benchmarks = map(Path, json.loads(listed.read_text())["benchmarks"])
    return cost_table(costs(list(benchmarks), json.loads(run_record.read_text())["jobs"]))


def cost_table(spent: list[Cost]) -> pl.DataFrame:
    """Bring costs into a table of `COSTS`, in their order."""
    columns = zip(*map(astuple, spent), strict=True) if spent else ([] for _ in COSTS)
    return frame({name: list(values) for name, values in zip(COSTS, columns, strict=True)}, COSTS)
