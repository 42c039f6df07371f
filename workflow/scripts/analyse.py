"""Turn tables of a measurement into tidy ones."""

from pathlib import Path

from selfrepair.core.by_name import call, tables_of
from selfrepair.core.program import program
from selfrepair.core.tables import write_table


def main(function: str, inputs: list[str], output: list[Path]) -> None:
    """Turn tables of a measurement into tidy ones.

    Args:
        function: what does it, such as `analysis.heads:summarise`; returns one table, or an object with several.
        inputs: its arguments, as argument=value; tables are Parquet or CSV files.
        output: Parquet and CSV files to write; of several tables each is named after its own.
    """
    for path, table in tables_of(call(function, inputs), output).items():
        write_table(table, path)


program(main)
