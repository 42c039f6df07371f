"""Turn tables of a measurement into tidy ones."""

from dataclasses import is_dataclass
from pathlib import Path

import polars as pl
import tyro

from selfrepair.core.by_name import call
from selfrepair.core.tables import write_table


def main(function: str, inputs: list[str], output: list[Path]) -> None:
    """Turn tables of a measurement into tidy ones.

    Args:
        function: what does it, such as `analysis.heads:summarise`; returns one table, or an object with several.
        inputs: its arguments, as argument=value; tables are Parquet or CSV files.
        output: Parquet and CSV files to write; of several tables each is named after its own.
    """
    result = call(function, inputs)
    tables = vars(result) if is_dataclass(result) else {path.stem: result for path in output}
    for path in output:
        table = tables[path.stem]
        assert isinstance(table, pl.DataFrame)
        write_table(table, path)


if __name__ == "__main__":
    tyro.cli(main)
