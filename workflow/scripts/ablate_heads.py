"""Ablate every head of a model, one at a time, in a shard of the rows."""

from pathlib import Path

import tyro

from selfrepair.ablation.program import Machine, read_clean, read_sampled
from selfrepair.ablation.replacements import Ablation
from selfrepair.ablation.selection import Measured
from selfrepair.ablation.shard import ablate_heads
from selfrepair.ablation.sweep import all_heads
from selfrepair.core.tables import write_parquet
from selfrepair.models.directory import parse_head


def main(
    model: Path,
    sampled: Path,
    clean: Path,
    ablation: Ablation,
    heads: list[str],
    shard: int,
    shards: int,
    tokens_output: Path,
    sums_output: Path,
    measure: Measured = "all",
    machine: Machine = Machine(),
) -> None:
    """Ablate every head of a model, one at a time, in a shard of the rows.

    Args:
        model: folder of the folded model.
        sampled: folder with tokens.parquet and rows.parquet.
        clean: folder of the clean pass.
        ablation: what a head's output is replaced by.
        heads: only these heads, written as L9H11; all if none.
        shard: index of the shard, from 0.
        shards: how many shards there are.
        tokens_output: Parquet file for the kept token rows.
        sums_output: Parquet file for the sums over all tokens.
        measure: all tokens, or selected and control tokens.
    """
    folded, record = machine.load(model)
    named = list(map(parse_head, heads)) or all_heads(folded)
    limits = (machine.memory_mb, machine.limit)
    rows = read_sampled(sampled)
    kept, sums = ablate_heads(folded, *rows, read_clean(clean), ablation, named, shard, shards, measure, *limits)
    write_parquet(kept, tokens_output)
    write_parquet(sums, sums_output, record)


if __name__ == "__main__":
    tyro.cli(main, config=[tyro.conf.OmitArgPrefixes])
