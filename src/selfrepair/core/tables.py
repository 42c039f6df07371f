"""What results look like on disk: Parquet tables with a documented schema, written whole or not at all."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from selfrepair.core.files import TableError, write_atomically

MADE_WITH = "selfrepair"  # key of a file's metadata


@dataclass(frozen=True)
class Column:
    """A column of a result table: its type, unit and meaning."""

    dtype: pl.DataType | type[pl.DataType]
    unit: str
    meaning: str


def frame(columns: Mapping[str, Any], schema: dict[str, Column]) -> pl.DataFrame:
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


def write_parquet(table: pl.DataFrame, path: Path, made_with: dict[str, str] | None = None) -> None:
    """Write a Parquet file, complete or not at all; what it was made with goes into its metadata."""
    metadata = None if made_with is None else {MADE_WITH: json.dumps(made_with)}
    write_atomically(path, lambda temporary: table.write_parquet(temporary, compression="zstd", metadata=metadata))


def write_table(table: pl.DataFrame, path: Path) -> None:
    """Write a table as Parquet or CSV, by the suffix of the path, complete or not at all."""
    if path.suffix == ".csv":
        write_atomically(path, lambda temporary: write_csv(table, temporary))
    else:
        write_parquet(table, path)


def read_table(path: Path) -> pl.DataFrame:
    """Read a Parquet or CSV file, by the suffix of the path.

    Raises:
        TableError: it can't be read.
    """
    try:
        return pl.read_csv(path) if path.suffix == ".csv" else pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise TableError(f"{path} can't be read ({error}); delete it, Snakemake makes it again") from error


def read_made_with(path: Path) -> dict[str, str]:
    """What a file says it was made with."""
    return json.loads(pl.read_parquet_metadata(path)[MADE_WITH])


DECIMALS = 6  # of floats in CSV files


def write_csv(table: pl.DataFrame, path: Path) -> None:
    """Write a CSV file whose floats have a fixed number of decimals."""
    table.write_csv(path, float_precision=DECIMALS)
