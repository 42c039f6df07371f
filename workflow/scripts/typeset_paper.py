"""Typeset the paper with latexmk or tectonic, whichever is there."""

import sys
from pathlib import Path

import tyro

from selfrepair.core.files import write_atomically
from selfrepair.report.typeset import TypesetError, typeset


def main(source: Path, output: Path) -> None:
    """Typeset the paper with latexmk or tectonic, whichever is there.

    Args:
        source: ZIP archive of paper_source.
        output: PDF file to write.
    """
    try:
        write_atomically(output, lambda temporary: typeset(source, temporary))
    except TypesetError as error:
        sys.exit(f"typeset_paper: {error}")


if __name__ == "__main__":
    tyro.cli(main)
