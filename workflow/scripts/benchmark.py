"""Measure a table of the benchmark."""

from pathlib import Path

import torch

from selfrepair.benchmark.schema import write_table
from selfrepair.core.by_name import call, tables_of
from selfrepair.core.files import write_atomically
from selfrepair.core.program import program


def main(function: str, threads: int, output: list[Path], inputs: list[str] = []) -> None:  # noqa: B006
    """Measure a table of the benchmark.

    Args:
        function: what measures it, such as `benchmark.growth:growth`; returns one table, or an object with several.
        threads: CPU threads.
        output: CSV files to write; of several tables each is named after its own.
        inputs: arguments of the function, as argument=value.
    """
    torch.set_num_threads(threads)
    for path, table in tables_of(call(function, inputs), output).items():
        write_atomically(path, lambda temporary, table=table: write_table(table, temporary))


program(main)
