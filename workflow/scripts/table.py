"""Write a table of the paper, as LaTeX and CSV."""

from pathlib import Path
from typing import cast

import polars as pl

from selfrepair.core.by_name import call
from selfrepair.core.files import write_text
from selfrepair.core.program import program
from selfrepair.core.tables import write_table


def main(function: str, inputs: list[str], tex: Path, csv: Path) -> None:
    """Write a table of the paper, as LaTeX and CSV.

    Args:
        function: what makes it, such as `report.tables:heads`.
        inputs: its arguments, as argument=value; tables are Parquet or CSV files.
        tex: LaTeX table to write.
        csv: CSV file to write.
    """
    rows, latex = cast(tuple[pl.DataFrame, str], call(function, inputs))
    write_text(tex, latex)
    write_table(rows, csv)


program(main)
