"""Ablate the chosen heads of a model in some rows, once with each of several resample partners."""

from pathlib import Path

import polars as pl
import tyro

from selfrepair.ablation.partners import measure_partners
from selfrepair.ablation.program import Machine, read_sampled
from selfrepair.analysis.chosen_heads import distinct, read_chosen
from selfrepair.core.tables import write_parquet


def main(
    model: Path,
    sampled: Path,
    selected: Path,
    heads: Path,
    partners: int,
    rows: int,
    seed: int,
    output: Path,
    machine: Machine = Machine(),
) -> None:
    """Ablate the chosen heads of a model in some rows, once with each of several resample partners.

    Args:
        model: folder of the folded model.
        sampled: folder with tokens.parquet and rows.parquet.
        selected: selected.parquet of the clean pass.
        heads: chosen_heads.csv.
        partners: partners of each row, the run's own included.
        rows: rows to measure, spread over the run's.
        seed: seed of the run.
        output: Parquet file to write.
    """
    folded, record = machine.load(model)
    chosen, limits = distinct(read_chosen(heads)), (machine.memory_mb, machine.limit)
    inputs = (*read_sampled(sampled), pl.read_parquet(selected), chosen)
    write_parquet(measure_partners(folded, *inputs, partners, rows, seed, *limits), output, record)


if __name__ == "__main__":
    tyro.cli(main, config=[tyro.conf.OmitArgPrefixes])
