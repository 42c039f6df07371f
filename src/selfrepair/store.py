"""What results look like on disk: Parquet tables with a documented schema, written whole or not at all."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

MADE_WITH = "selfrepair"  # key of a file's metadata


@dataclass(frozen=True)
class Column:
    """A column of a result table: its type, unit and meaning."""

    dtype: pl.DataType | type[pl.DataType]
    unit: str
    meaning: str


def frame(columns: dict[str, object], schema: dict[str, Column]) -> pl.DataFrame:
    """Build a table with exactly the schema's columns and types, in its order.

    Raises:
        ValueError: a column is missing or not in the schema.
    """
    if set(columns) != set(schema):
        raise ValueError(f"columns {sorted(set(columns) ^ set(schema))} are missing or not in the schema")
    return pl.DataFrame({name: columns[name] for name in schema}, schema={n: c.dtype for n, c in schema.items()})


def empty(schema: dict[str, Column]) -> pl.DataFrame:
    """A table of the schema without rows."""
    return pl.DataFrame(schema={name: column.dtype for name, column in schema.items()})


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file and rename it, so that `path` is complete or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        write(temporary)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_parquet(table: pl.DataFrame, path: Path, made_with: dict[str, str] | None = None) -> None:
    """Write a Parquet file, complete or not at all; what it was made with goes into its metadata."""
    metadata = None if made_with is None else {MADE_WITH: json.dumps(made_with)}
    write_whole(path, lambda temporary: table.write_parquet(temporary, compression="zstd", metadata=metadata))


def read_made_with(path: Path) -> dict[str, str]:
    """What a file says it was made with."""
    return json.loads(pl.read_parquet_metadata(path)[MADE_WITH])
