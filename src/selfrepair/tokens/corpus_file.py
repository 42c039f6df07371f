"""Is a file the corpus that it is said to be: what can be seen of it without reading it as a table.

Only the standard library is imported, so that a run can refuse bad input before anything long starts.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from selfrepair.core.files import sha256

FORMATS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".txt": "text"}
MAGIC = b"PAR1"  # begins and ends a Parquet file


class CorpusError(ValueError):
    """A corpus that can't serve; the message names it and the fix."""


def check_corpus_file(path: Path, text_column: str, most: int | None = None) -> None:
    """Check the format of a corpus; of text its encoding, of JSON lines each line's syntax and its text.

    Args:
        text_column: name of the text in JSON lines.
        most: bytes that are looked at, of text and JSON lines; all if None.

    Raises:
        CorpusError: the file is missing, of another format, cut short, or a line of it can't be read.
    """
    if not path.is_file():
        raise CorpusError(f"corpus {path} does not exist; set the corpus's `path` to a file that does")
    if path.suffix not in FORMATS:
        raise CorpusError(f"corpus {path}: `{path.suffix}` is not supported; use one of {', '.join(FORMATS)}")
    if not path.stat().st_size:
        raise CorpusError(f"corpus {path} is empty; fetch it again")
    if path.suffix == ".parquet":
        _check_parquet(path)
    for number, line in _lines(path, most) if path.suffix in (".txt", ".jsonl") else ():
        if path.suffix == ".jsonl" and line.strip():
            _check_record(f"corpus {path}, line {number}", line, text_column)


def check_sha256(path: Path, expected: str, digest: Callable[[Path], str] = sha256) -> None:
    """Compare a file's SHA-256 with the expected one; an empty one is not checked.

    Raises:
        CorpusError: they differ.
    """
    if expected and (actual := digest(path)) != expected:
        raise CorpusError(f"{path} has SHA-256 {actual}, not {expected}; restore the file, or correct its `sha256`")


def _check_parquet(path: Path) -> None:
    with path.open("rb") as file:
        first = file.read(len(MAGIC))
        file.seek(max(0, path.stat().st_size - len(MAGIC)))
        if first != MAGIC or file.read() != MAGIC:
            raise CorpusError(f"corpus {path} is cut short or no Parquet file; fetch it again")


def _lines(path: Path, most: int | None) -> Iterator[tuple[int, str]]:
    read = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            read += len(line)
            if most is not None and read > most:
                return
            try:
                yield number, line.decode()
            except UnicodeDecodeError as error:
                raise CorpusError(f"corpus {path}, line {number} is no UTF-8 ({error}); convert the file") from error


def _check_record(place: str, line: str, text_column: str) -> None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise CorpusError(f"{place} is no JSON ({error}); mend or remove it") from error
    if not isinstance(record, dict) or text_column not in record:
        raise CorpusError(f"{place} has no `{text_column}`; name the text's key as `text` of the corpus, or add it")
    if not isinstance(record[text_column], str):
        raise CorpusError(
            f"{place}: `{text_column}` is {record[text_column]!r}, no text; put it in quotes or remove it"
        )
