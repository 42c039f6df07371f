"""The paper's sources as one archive that compiles by itself, and its compilation with the TeX engine that is there."""

import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

from selfrepair.core.files import write_atomically

ENGINES = {  # by program, in order of preference
    "latexmk": ["latexmk", "-pdf", "-interaction=nonstopmode", "-halt-on-error", "main.tex"],
    "tectonic": ["tectonic", "main.tex"],
}
INSTALL = "apt-get install texlive-latex-recommended latexmk"
NO_ENGINE = f"no TeX engine ({' or '.join(ENGINES)}) was found; on Debian: {INSTALL}"
HOW_TO = f"""How to typeset this paper

With TeX Live:   latexmk -pdf main.tex
With tectonic:   tectonic main.tex

On Debian and its relatives: {INSTALL}
"""
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that ZIP can hold


class TypesetError(RuntimeError):
    """The paper could not be typeset; says what TeX complained of, or how to get an engine."""


def write_source(
    path: Path, main: Path, bibliography: Path, macros: Path, tables: list[Path], figures: list[Path]
) -> None:
    """Archive everything that the paper is compiled from; the same inputs make the same archive."""
    files = {"main.tex": main, "references.bib": bibliography, "macros.tex": macros}
    files |= {f"tables/{table.name}": table for table in tables}
    files |= {f"figures/{figure.name}": figure for figure in figures}
    contents = {name: file.read_bytes() for name, file in files.items()} | {"HOW_TO_TYPESET.txt": HOW_TO.encode()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, contents[name])


def typeset(source: Path, pdf: Path) -> None:
    """Compile the archive; the PDF carries no date.

    Raises:
        TypesetError: there is no engine, or TeX found an error.
    """
    engine = next((name for name in ENGINES if shutil.which(name)), None)
    if engine is None:
        raise TypesetError(f"{NO_ENGINE}. The sources, ready to compile, are in {source}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with zipfile.ZipFile(source) as archive:
            archive.extractall(folder)
        dated = os.environ | {"SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1"}
        done = subprocess.run(
            ENGINES[engine], cwd=folder, env=dated, capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode != 0:
            raise TypesetError(f"{engine} failed:\n{errors(done.stdout + done.stderr)}")
        shutil.copyfile(folder / "main.pdf", pdf)


def errors(log: str, context: int = 4) -> str:
    """Pick the complaints out of a TeX log, each with the lines after it; the log's end where there are none."""
    lines = log.splitlines()
    places = [place for place, line in enumerate(lines) if line.startswith(("!", "error:"))]
    kept = sorted({line for place in places for line in range(place, min(len(lines), place + context))})
    return "\n".join([lines[line] for line in kept] or lines[-20:])


def typeset_source(source: Path, output: Path) -> None:
    """Typeset the paper with latexmk or tectonic, whichever is there.

    Args:
        source: ZIP archive of paper_source.
        output: PDF file to write.

    Raises:
        TypesetError: as `typeset`.
    """
    write_atomically(output, lambda temporary: typeset(source, temporary))


def archive_source(
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
