"""Check the final norm's part of self-repair: ablate heads with the final scale kept at its clean value."""

from pathlib import Path

import polars as pl
import tyro
from safetensors.torch import load_file

from selfrepair.ablation.frozen_norm import check_norm, most_repaired
from selfrepair.ablation.program import Machine, read_sampled
from selfrepair.ablation.replacements import Ablation
from selfrepair.core.files import write_atomically
from selfrepair.core.tables import write_parquet

COLUMNS = ["layer", "head", "row", "pos", "selected", "repair_norm"]


def main(
    model: Path,
    sampled: Path,
    means: Path,
    measured: Path,
    heads: Path,
    ablation: Ablation,
    count: int,
    rows: int,
    output: Path,
    machine: Machine = Machine(),
) -> None:
    """Check the final norm's part of self-repair: ablate heads with the final scale kept at its clean value.

    Args:
        model: folder of the folded model.
        sampled: folder with tokens.parquet and rows.parquet.
        means: means.safetensors of the clean pass.
        measured: token rows of a shard.
        heads: heads.parquet of the ablation.
        ablation: what a head's output is replaced by.
        count: heads to check: those with the largest self-repair.
        rows: rows of the shard to run anew for each head.
        output: norm_check.parquet; as CSV, too.
    """
    folded, record = machine.load(model)
    chosen = most_repaired(pl.read_parquet(heads), count)
    kept = pl.read_parquet(measured, columns=COLUMNS)
    checked = check_norm(folded, *read_sampled(sampled), kept, ablation, chosen, rows, load_file(means)["z"])
    write_parquet(checked, output, record)
    # Deviations are far below the six decimals of other tables.
    write_atomically(output.with_suffix(".csv"), lambda temporary: checked.write_csv(temporary, float_precision=9))
    print(f"{len(checked)} heads, largest deviation: {checked['largest_deviation'].max() or 0:.1e} logits", flush=True)


if __name__ == "__main__":
    tyro.cli(main, config=[tyro.conf.OmitArgPrefixes])
