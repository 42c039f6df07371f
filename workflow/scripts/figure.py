"""Draw a figure."""

from pathlib import Path
from typing import cast

import tyro

from selfrepair.core.by_name import call
from selfrepair.figures.save import save_chart
from selfrepair.figures.theme import Panel


def main(function: str, inputs: list[str], output: list[Path]) -> None:
    """Draw a figure.

    Args:
        function: what draws it, such as `figures.noise:noise_components`.
        inputs: its arguments, as argument=value; tables are Parquet or CSV files.
        output: files to write: .json .pdf .svg .png .html.
    """
    save_chart(cast(Panel, call(function, inputs)), output)


if __name__ == "__main__":
    tyro.cli(main)
