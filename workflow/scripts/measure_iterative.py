"""Skip layers, and add heads' own outputs to what they read."""

from pathlib import Path

import polars as pl
import tyro

from selfrepair.ablation.iterative import RECEIVERS, measure_moves, measure_repression, strongest_heads
from selfrepair.ablation.program import Machine, read_sampled
from selfrepair.core.tables import write_parquet
from selfrepair.models.directory import parse_head


def main(
    model: Path,
    sampled: Path,
    clean: Path,
    heads: list[str],
    strengths: list[float],
    count: int,
    seed: int,
    output: Path,
    machine: Machine = Machine(),
) -> None:
    """Skip layers, and add heads' own outputs to what they read: the iterative-inference experiments, exploratory.

    Args:
        model: folder of the folded model.
        sampled: folder with tokens.parquet and rows.parquet.
        clean: folder of the clean pass.
        heads: repress none but these, written as L9H11; any if none.
        strengths: factors of what is added.
        count: top tokens of each head at which something is added.
        seed: seed of tokens, other heads and random directions.
        output: folder for moves and additions.
    """
    folded, record = machine.load(model)
    tokens, rows = read_sampled(sampled)
    clean_tokens, selected = (pl.read_parquet(clean / f"{name}.parquet") for name in ("tokens", "selected"))
    allowed = set(map(parse_head, heads))
    receivers = [head for head in strongest_heads(selected) if not allowed or head in allowed][:RECEIVERS]
    write_parquet(measure_moves(folded, tokens, rows, selected), output / "moves.parquet", record)
    additions = measure_repression(folded, tokens, clean_tokens, selected, receivers, strengths, count, seed)
    write_parquet(additions, output / "additions.parquet", record)


if __name__ == "__main__":
    tyro.cli(main, config=[tyro.conf.OmitArgPrefixes])
