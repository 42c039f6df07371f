"""Run a model once over all tokens."""

from pathlib import Path

import polars as pl
import tyro
from safetensors.torch import save_file

from selfrepair.ablation.clean_run import run_clean
from selfrepair.ablation.program import Machine
from selfrepair.ablation.selection import Measured
from selfrepair.core.files import write_atomically
from selfrepair.core.tables import write_parquet


def main(
    model: Path,
    tokens: Path,
    top_fraction: float,
    control: int,
    seed: int,
    output: Path,
    measure: Measured = "all",
    machine: Machine = Machine(),
) -> None:
    """Run a model once over all tokens: select every head's top tokens exactly, draw the control sample, average z.

    Args:
        model: folder of the folded model.
        tokens: tokens.parquet.
        top_fraction: share of tokens selected for each head.
        control: tokens of the control sample.
        seed: seed of the control sample.
        output: folder for tokens, selected and means.
        measure: selected: a control sample of whole rows.
    """
    folded, record = machine.load(model)
    clean = run_clean(folded, pl.read_parquet(tokens), top_fraction, control, seed, measure == "selected")
    write_parquet(clean.tokens, output / "tokens.parquet", record)
    write_parquet(clean.selected, output / "selected.parquet")
    write_atomically(output / "means.safetensors", lambda path: save_file({"z": clean.means}, path))


if __name__ == "__main__":
    tyro.cli(main, config=[tyro.conf.OmitArgPrefixes])
