"""Is a file the corpus that it is said to be: what can be seen of it without reading it as a table.

Only the standard library is imported, so that a run can refuse bad input before anything long starts.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from selfrepair.core.files import once, sha256

FORMATS = (".parquet", ".jsonl", ".json", ".txt")
MAGIC = b"PAR1"  # begins and ends a Parquet file
OPTIONAL = ("document", "kind", "split")


class CorpusError(ValueError):
    """A corpus that can't serve; the message names it and the fix."""


def check_corpus_file(path: Path, text_column: str, most: int | None = None) -> None:
    """Check the format of a corpus; of text its encoding, of JSON its records.

    Args:
        text_column: name of the text in JSON.
        most: bytes that are looked at, of text and JSON lines; all if None. Longer JSON arrays are not looked at.

    Raises:
        CorpusError: the file is missing, of another format, cut short, or a line of it can't be read.
    """
    if text_column in OPTIONAL:
        raise CorpusError(f"corpus {path}: `{text_column}` is where a document's {text_column} stands, no text")
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise CorpusError(f"corpus {path} {what}; correct its path")
    if path.suffix not in FORMATS:
        raise CorpusError(f"corpus {path}: `{path.suffix}` is not supported; use one of {', '.join(FORMATS)}")
    if not path.stat().st_size:
        raise CorpusError(f"corpus {path} is empty; fetch it again")
    if path.suffix == ".parquet":
        _check_parquet(path)
    else:
        for _ in _lines(path, most) if path.suffix == ".txt" else records(path, text_column, most):
            pass


def records(path: Path, text_column: str, most: int | None = None) -> Iterator[dict[str, Any]]:
    """The records of JSON lines, or of a JSON array.

    Args:
        text_column, most: as in `check_corpus_file`.

    Raises:
        CorpusError: one is no JSON object, or its text, kind, split or name is no text.
    """
    if path.suffix == ".json" and _is_array(path):
        if most is None or path.stat().st_size <= most:
            whole = "".join(line for _, line in _lines(path, None))
            for number, record in enumerate(_parse(f"corpus {path}", whole), 1):
                yield _checked(f"corpus {path}, record {number}", record, text_column)
    else:
        for number, line in _lines(path, most):
            if line.strip():
                place = f"corpus {path}, line {number}"
                yield _checked(place, _parse(place, line), text_column)


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


def _is_array(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1000).lstrip().startswith(b"[")


def _parse(place: str, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{place} is no JSON ({error}); mend or remove it") from error


def _checked(place: str, record: Any, text_column: str) -> dict[str, Any]:
    if not isinstance(record, dict) or text_column not in record:
        raise CorpusError(f"{place} has no `{text_column}`; name the text's key as `text` of the corpus, or add it")
    for key in (text_column, *OPTIONAL):
        value = record.get(key)
        if not isinstance(value, str) and (key == text_column or value is not None):
            raise CorpusError(f"{place}: `{key}` is {value!r:.60}, no text; put it in quotes or remove it")
        try:
            (value or "").encode()
        except UnicodeEncodeError as error:
            raise CorpusError(f"{place}: `{key}` holds half of a character ({error}); replace or remove it") from error
    return record
