"""Measure the neurons of some MLPs while the chosen heads of a model are ablated by resampling."""

from pathlib import Path

import polars as pl
import tyro

from selfrepair.ablation.neurons import measure_neurons
from selfrepair.ablation.program import Machine, read_sampled
from selfrepair.analysis.chosen_heads import distinct, read_chosen
from selfrepair.core.tables import write_parquet


def main(
    model: Path,
    sampled: Path,
    selected: Path,
    chosen: Path,
    layers: list[int],
    top_fraction: float,
    output: Path,
    machine: Machine = Machine(),
) -> None:
    """Measure the neurons of some MLPs while the chosen heads of a model are ablated by resampling.

    Args:
        model: folder of the folded model.
        sampled: folder with tokens.parquet and rows.parquet.
        selected: selected.parquet of the clean pass.
        chosen: chosen_heads.csv.
        layers: layers of the MLPs; -1 is the last.
        top_fraction: share of tokens in the set `outcome`.
        output: folder for tokens, neurons and ranks.
    """
    folded, record = machine.load(model)
    heads, limits = distinct(read_chosen(chosen)), (machine.memory_mb, machine.limit)
    tables = measure_neurons(
        folded, *read_sampled(sampled), pl.read_parquet(selected), heads, layers, top_fraction, *limits
    )
    for name in ("tokens", "neurons", "ranks"):
        write_parquet(getattr(tables, name), output / f"{name}.parquet", record)


if __name__ == "__main__":
    tyro.cli(main, config=[tyro.conf.OmitArgPrefixes])
