"""Read a corpus of documents: Parquet, JSON lines or plain text."""

from pathlib import Path
from typing import Any

import polars as pl

from selfrepair.tokens.corpus_file import FORMATS, CorpusError, check_corpus_file

BYTE_ORDER_MARK = "\ufeff"  # not of the text
TEXT_SEPARATOR = "\n<|endoftext|>\n"
TEXTS = (pl.String, pl.Categorical, pl.Enum)
SEPARATORS = r"\n(?:<\|endoftext\|>[ \t]*\n)+"  # one or several


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
    wanted_columns = [name for name in ("document", "kind", "split", text_column) if name in first]
    if text_column not in first:
        raise CorpusError(f"corpus {path} has no column `{text_column}`; it has {', '.join(first) or 'no rows'}")
    documents = pl.DataFrame(list(loaded.select_columns(wanted_columns)), infer_schema_length=None)
    if missing := documents[text_column].null_count():
        raise CorpusError(f"corpus {path}: `{text_column}` is missing in {missing} documents; fill or remove them")
    _check_columns(path, documents.schema, text_column, split, kinds)
    if path.suffix == ".txt":
        letters = documents[text_column].str
        if 4 * letters.count_matches("\0", literal=True).sum() > letters.len_chars().sum():
            raise CorpusError(f"corpus {path} is full of NUL, as text in UTF-16 is; convert it to UTF-8")
        one = pl.col(text_column).str.replace_all(SEPARATORS, TEXT_SEPARATOR)
        whole_text = one.str.strip_prefix(BYTE_ORDER_MARK).str.strip_prefix(TEXT_SEPARATOR[1:])
        texts = whole_text.str.strip_suffix(TEXT_SEPARATOR[:-1]).str.split(TEXT_SEPARATOR)
        documents = documents.with_columns(texts).explode(text_column).filter(pl.col(text_column).str.len_chars() > 0)
    _check_kinds(path, documents, kinds)
    documents = documents.filter(_chosen(split, kinds))
    if documents.is_empty():
        raise CorpusError(f"corpus {path} has no document of split {split} and kinds {kinds}")
    numbered = pl.format("{}", pl.int_range(pl.len()))
    name = pl.col("document") if "document" in documents.columns else numbered
    kind = pl.col("kind") if "kind" in documents.columns else pl.lit("text")
    return documents.select(name.alias("name"), kind.alias("kind"), pl.col(text_column).alias("text"))


def check_parquet(path: Path, text_column: str, split: str | None, kinds: list[str]) -> None:
    """Check what can be seen of a Parquet corpus without its texts.

    Raises:
        CorpusError: a column is missing or is no text, or no document is of the split and kinds.
    """
    documents = pl.scan_parquet(path, glob=False)
    try:
        _check_columns(path, documents.collect_schema(), text_column, split, kinds)
        _check_kinds(path, documents, kinds)
        chosen = documents.filter(_chosen(split, kinds)).select(pl.len()).collect().item()
    except pl.exceptions.PolarsError as error:
        raise CorpusError(f"corpus {path} can't be read ({error}); fetch or mend it") from error
    if not chosen:
        raise CorpusError(f"corpus {path} has no document of split {split} and kinds {kinds}")


def _check_columns(path: Path, schema: pl.Schema, text_column: str, split: str | None, kinds: list[str]) -> None:
    if text_column not in schema:
        raise CorpusError(f"corpus {path} has no column `{text_column}`; it has {', '.join(schema)}")
    if schema[text_column] != pl.String:
        raise CorpusError(f"corpus {path}: `{text_column}` is {schema[text_column]}, no text; name another")
    for column, wanted in (("split", split), ("kind", kinds)):
        if wanted and column not in schema:
            raise CorpusError(f"corpus {path} has no column `{column}`, so {wanted} can't be chosen")
        if wanted and schema[column] not in TEXTS:
            raise CorpusError(
                f"corpus {path}: `{column}` is {schema[column]}, no text; convert it, or do not choose by it"
            )


def _check_kinds(path: Path, documents: pl.DataFrame | pl.LazyFrame, kinds: list[str]) -> None:
    if not kinds:
        return
    there = documents.lazy().select(pl.col("kind").unique().sort()).collect()["kind"].to_list()
    if missing := [kind for kind in kinds if kind not in there]:
        raise CorpusError(
            f"corpus {path} has no document of kind {', '.join(missing)}; it has {', '.join(map(str, there))}"
        )


def _chosen(split: str | None, kinds: list[str]) -> pl.Expr:
    of_split = pl.lit(True) if split is None else pl.col("split") == split
    return of_split & (pl.col("kind").is_in(kinds) if kinds else pl.lit(True))
