"""Archive the sources of the paper, ready to compile."""

from pathlib import Path

import tyro

from selfrepair.core.files import write_atomically
from selfrepair.report.typeset import write_source


def archive(
    main: Path, bibliography: Path, macros: Path, tables: list[Path], figures: list[Path], output: Path
) -> None:
    """Archive the sources of the paper, ready to compile.

    Args:
        main: main.tex.
        bibliography: references.bib.
        macros: macros.tex of write_macros.
        tables: LaTeX tables.
        figures: figures as PDF.
        output: ZIP archive to write.
    """
    write_atomically(output, lambda temporary: write_source(temporary, main, bibliography, macros, tables, figures))


if __name__ == "__main__":
    tyro.cli(archive)
