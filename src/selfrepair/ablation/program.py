"""What the programs that measure have in common: flags of the machine, the model, and the tables that they read."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import torch

from selfrepair.core.tables import read_table
from selfrepair.models.device import describe_device, job_record, pick_device
from selfrepair.models.directory import parse_head
from selfrepair.models.folded import FoldedModel
from selfrepair.models.folded_files import load_folded


@dataclass(frozen=True)
class Machine:
    """What a measuring job may use.

    Attributes:
        device: auto, cpu or cuda.
        threads: CPU threads.
        memory: MB of this job (on a GPU, of the GPU), or auto.
        limit: MB that a batch system grants this job.
    """

    device: str = "auto"
    threads: int = 1
    memory: str = "auto"
    limit: int | None = None

    @property
    def memory_mb(self) -> int | None:
        """The `memory` that is set; None for auto."""
        return None if self.memory == "auto" else int(self.memory)

    def load(self, folder: Path) -> tuple[FoldedModel, dict[str, str]]:
        """Load a folded model; return it with the record of what the job runs on."""
        torch.set_num_threads(self.threads)
        device = pick_device(self.device)
        model = load_folded(folder, device)
        return model, job_record(describe_device(device), model.precision)


def read_sampled(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read `TOKENS` and `ROWS` from their folder."""
    return read_table(folder / "tokens.parquet"), read_table(folder / "rows.parquet")


def heads_or_all(model: FoldedModel, named: list[str]) -> list[tuple[int, int]]:
    """The heads that are named (L9H11), or all of the model if none is."""
    return [parse_head(name) for name in named] or model.heads
