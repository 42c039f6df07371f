"""Draw a figure of every model and ablation."""

from pathlib import Path
from typing import cast

from selfrepair.core.by_name import call
from selfrepair.core.program import program
from selfrepair.figures.save import save_chart
from selfrepair.figures.theme import Panel


def main(function: str, inputs: list[str], output: list[Path]) -> None:
    """Draw a figure of every model and ablation.

    Args:
        function: what draws it, such as `figures.noise:noise_components`.
        inputs: its arguments for each, as name:argument=value; tables are Parquet or CSV files.
        output: files to write, the name and .json .pdf .svg .png .html.
    """
    for name in dict.fromkeys(path.stem for path in output):
        arguments = [text.removeprefix(f"{name}:") for text in inputs if text.startswith(f"{name}:")]
        save_chart(cast(Panel, call(function, arguments)), [path for path in output if path.stem == name])


program(main)
