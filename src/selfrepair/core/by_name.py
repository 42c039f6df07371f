"""Call a function of the package by its name, with the files that a rule gives it.

All figures share one program and all tables another; which function, and what it reads, stands in the rules.
"""

from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import polars as pl

from selfrepair.core.files import TableError
from selfrepair.core.tables import read_table


def call(function: str, inputs: list[str]) -> object:
    """Call `module:name` of the package with keyword arguments.

    Args:
        function: such as `figures.noise:noise`.
        inputs: `argument=value`; an argument given several times is a list,
            and a list may be empty. By the type of the argument a value is
            a text, a number, a path, or a Parquet or CSV file, which is read (several of them one below the other).

    Raises:
        ValueError: the function takes no argument of a given name.
        TableError: a file can't be read as a table.
    """
    module, name = function.split(":")
    target = getattr(import_module(f"selfrepair.{module}"), name)
    types = {name: kind for name, kind in get_type_hints(target).items() if name != "return"}
    values: dict[str, list[str]] = {name: [] for name, kind in types.items() if kind in (list[str], list[Path])}
    for pair in inputs:
        argument, value = pair.split("=", 1)
        if argument not in types:
            raise ValueError(f"{function} takes {', '.join(types)}, not {argument}")
        values.setdefault(argument, []).append(value)
    return target(**{argument: _converted(types[argument], given) for argument, given in values.items()})


def tables_of(result: object, paths: list[Path]) -> dict[Path, pl.DataFrame]:
    """The table that each file takes: the only one, or of an object with several the one of the file's name."""
    tables = vars(result) if is_dataclass(result) else {path.stem: result for path in paths}
    return {path: tables[path.stem] for path in paths}


def _converted(kind: Any, values: list[str]) -> object:
    if kind is pl.DataFrame:
        try:
            return pl.concat(map(read_table, map(Path, values)))
        except pl.exceptions.PolarsError as error:
            raise TableError(
                f"{', '.join(values)} are of several kinds ({error}); delete them, Snakemake makes them again"
            ) from error
    if kind == list[Path]:
        return list(map(Path, values))
    return values if kind == list[str] else kind(values[0])
