"""Read a corpus of documents: Parquet, JSON lines or plain text."""

from pathlib import Path
from typing import Any

import polars as pl

from selfrepair.core.files import sha256

TEXT_SEPARATOR = "\n<|endoftext|>\n"


class CorpusError(ValueError):
    """A corpus that can't serve; the message names it and the fix."""


def read_corpus(path: Path, text_column: str, split: str | None, kinds: list[str]) -> pl.DataFrame:
    """Read a corpus of Parquet, JSON-lines or plain text with `datasets`; return columns name, kind, text.

    In plain text a line `<|endoftext|>` separates documents; in the others each record is one.

    Raises:
        CorpusError: the file or a column is missing, or no document is left.
    """
    from datasets import load_dataset

    formats = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".txt": "text"}
    if not path.is_file():
        raise CorpusError(f"corpus {path} does not exist; set the corpus's `path` to a file that does")
    if path.suffix not in formats:
        raise CorpusError(f"corpus {path}: `{path.suffix}` is not supported; use one of {', '.join(formats)}")
    whole = {"sample_by": "document"} if path.suffix == ".txt" else {}
    loaded = load_dataset(formats[path.suffix], data_files=str(path), split="train", streaming=True, **whole)
    first: dict[str, Any] = next(iter(loaded), {})
    if text_column not in first:
        raise CorpusError(f"corpus {path} has no column `{text_column}`; it has {', '.join(first) or 'no rows'}")
    wanted_columns = [name for name in ("document", "kind", "split", text_column) if name in first]
    documents = pl.DataFrame(list(loaded.select_columns(wanted_columns)), infer_schema_length=None)
    if missing := documents[text_column].null_count():
        raise CorpusError(f"corpus {path}: `{text_column}` is missing in {missing} documents; fill or remove them")
    if path.suffix == ".txt":
        texts = pl.col(text_column).str.split(TEXT_SEPARATOR)
        documents = documents.with_columns(texts).explode(text_column).filter(pl.col(text_column).str.len_chars() > 0)
    for column, wanted in (("split", [split] if split else []), ("kind", kinds)):
        if wanted:
            if column not in documents.columns:
                raise CorpusError(f"corpus {path} has no column `{column}`, so {wanted} can't be chosen")
            documents = documents.filter(pl.col(column).is_in(wanted))
    if documents.is_empty():
        raise CorpusError(f"corpus {path} has no document of split {split} and kinds {kinds}")
    numbered = pl.format("{}", pl.int_range(pl.len()))
    name = pl.col("document") if "document" in documents.columns else numbered
    kind = pl.col("kind") if "kind" in documents.columns else pl.lit("text")
    return documents.select(name.alias("name"), kind.alias("kind"), pl.col(text_column).alias("text"))


def check_sha256(path: Path, expected: str) -> None:
    """Compare a file's SHA-256 with the expected one; an empty one is not checked.

    Raises:
        CorpusError: they differ.
    """
    if expected and (actual := sha256(path)) != expected:
        raise CorpusError(f"{path} has SHA-256 {actual}, not {expected}; restore the file, or correct its `sha256`")
