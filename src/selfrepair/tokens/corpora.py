"""Read a corpus of documents: Parquet, JSON lines or plain text."""

import re
from pathlib import Path

import polars as pl
import polars.selectors as cs

from selfrepair.tokens.corpus_file import OPTIONAL, CorpusError, check_corpus_file, records

KIND = "text"  # where the corpus does not say it
TEXTS = (pl.String, pl.Categorical, pl.Enum)
SEPARATORS = re.compile(r"(?:\A|\n)(?:<\|endoftext\|>[ \t]*(?:\n|\Z))+")  # one line or several


def read_corpus(path: Path, text_column: str, split: str | None, kinds: list[str]) -> pl.DataFrame:
    """Read a corpus of Parquet, JSON lines or plain text; return columns name, kind, text.

    In plain text a line `<|endoftext|>` separates documents; in the others each record is one.

    Raises:
        CorpusError: the file or a column is missing, a line can't be read, what should be text is none, or no
            document is left.
    """
    check_corpus_file(path, text_column, None if path.suffix == ".txt" else 0)  # JSON's records are checked below
    columns = (*OPTIONAL, text_column)
    if path.suffix == ".parquet":
        found = pl.scan_parquet(path, glob=False)
    elif path.suffix == ".txt":
        found = pl.LazyFrame({text_column: _divided(path)}, schema={text_column: pl.String})
    else:
        listed = list(records(path, text_column))
        there = [name for name in columns if any(name in record for record in listed)]
        found = pl.LazyFrame(listed, schema=dict.fromkeys(there, pl.String))
    try:
        _check_columns(path, schema := found.collect_schema(), text_column, split, kinds)
        wanted = cs.by_name([name for name in columns if name in schema])  # not `pl.col`, which takes `^` for a pattern
        documents = found.select(wanted.cast(pl.String)).collect().rename({text_column: "text"})
    except pl.exceptions.PolarsError as error:
        raise CorpusError(f"corpus {path} can't be read ({error}); fetch or mend it") from error
    if missing := documents["text"].null_count():
        raise CorpusError(f"corpus {path}: `{text_column}` is missing in {missing} documents; fill or remove them")
    _check_kinds(path, documents, kinds)
    documents = documents.filter(_chosen(split, kinds))
    if documents.is_empty():
        raise CorpusError(f"corpus {path} has no document of split {split} and kinds {kinds}")
    numbered = pl.format("{}", pl.int_range(pl.len()))
    name = pl.coalesce("document", numbered) if "document" in documents.columns else numbered
    kind = pl.col("kind").fill_null(KIND) if "kind" in documents.columns else pl.lit(KIND)
    return documents.select(name.alias("name"), kind.alias("kind"), "text")


def _divided(path: Path) -> list[str]:
    """The documents of a plain text."""
    text = path.read_text(encoding="utf-8-sig")
    if 4 * text.count("\0") > len(text):
        raise CorpusError(f"corpus {path} is full of NUL, as text in UTF-16 is; convert it to UTF-8")
    return [document for document in SEPARATORS.split(text) if document]


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
        raise CorpusError(f"corpus {path} has no column `{text_column}`; it has {', '.join(schema) or 'no rows'}")
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
