"""Read a corpus of documents: Parquet, JSON lines or plain text."""

from pathlib import Path
from typing import Any

import polars as pl

from selfrepair.core.files import sha256
from selfrepair.tokens.corpus_file import FORMATS, CorpusError, check_corpus_file

BYTE_ORDER_MARK = "\ufeff"  # not of the text
TEXT_SEPARATOR = "\n<|endoftext|>\n"


def read_corpus(path: Path, text_column: str, split: str | None, kinds: list[str]) -> pl.DataFrame:
    """Read a corpus of Parquet, JSON-lines or plain text with `datasets`; return columns name, kind, text.

    In plain text a line `<|endoftext|>` separates documents; in the others each record is one.

    Raises:
        CorpusError: the file or a column is missing, a line can't be read, what should be text is none, or no
            document is left.
    """
    from datasets import load_dataset

    check_corpus_file(path, text_column)
    whole = {"sample_by": "document"} if path.suffix == ".txt" else {}
    try:
        loaded = load_dataset(FORMATS[path.suffix], data_files=str(path), split="train", streaming=True, **whole)
        first: dict[str, Any] = next(iter(loaded), {})
    except (OSError, ValueError) as error:  # of pyarrow, whose errors are such
        raise CorpusError(f"corpus {path} can't be read ({error}); fetch or mend it") from error
    if text_column not in first:
        raise CorpusError(f"corpus {path} has no column `{text_column}`; it has {', '.join(first) or 'no rows'}")
    wanted_columns = [name for name in ("document", "kind", "split", text_column) if name in first]
    documents = pl.DataFrame(list(loaded.select_columns(wanted_columns)), infer_schema_length=None)
    if missing := documents[text_column].null_count():
        raise CorpusError(f"corpus {path}: `{text_column}` is missing in {missing} documents; fill or remove them")
    if documents.schema[text_column] != pl.String:
        raise CorpusError(f"corpus {path}: `{text_column}` is {documents.schema[text_column]}, no text; name another")
    if path.suffix == ".txt":
        whole_text = pl.col(text_column).str.strip_prefix(BYTE_ORDER_MARK).str.strip_prefix(TEXT_SEPARATOR[1:])
        texts = whole_text.str.strip_suffix(TEXT_SEPARATOR[:-1]).str.split(TEXT_SEPARATOR)
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
