"""What rules that are made from a table tell their program: its function's arguments, as `name=value`."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Job = dict[str, str]
Tables = dict[str, str | list[str] | Callable[[Job], list[str]]]


def arguments(tables: Iterable[str], texts: list[str] | Callable[[Any], list[str]] = ()) -> Callable[..., list[str]]:
    """Function of a rule that gives its program's arguments: its input files of these names, and texts."""

    def of(wildcards: Any, input: Any) -> list[str]:
        said = texts(wildcards) if callable(texts) else [text.format(**wildcards) for text in texts]
        return said + [f"{name}={file}" for name in tables for file in several(input[name])]

    return of


def arguments_of_each(
    jobs: list[Job], target: str, tables: Tables, texts: Iterable[str] = ()
) -> tuple[list[str], list[str]]:
    """Arguments of every figure of a kind, as `figure:argument=value`, and the files among them.

    Args:
        jobs: model and ablation of each.
        target: name of a figure, with wildcards.
        tables: files of each argument, with wildcards, or a function of the job that gives them.
    """
    named: dict[str, None] = {}
    files: dict[str, None] = {}
    for of in jobs:
        name = target.format(**of)
        for text in texts:
            named[f"{name}:{text.format(**of)}"] = None
        for argument, paths in tables.items():
            for path in several(paths(of) if callable(paths) else paths):
                file = path.format(**of)
                named[f"{name}:{argument}={file}"] = files[file] = None
    return list(named), list(files)


def listed(rule: str, run: str, **files: str | list[str]) -> Path:
    """File with the paths of a rule's inputs, by name: of a large run they are more than a command line may hold.

    Other paths are another file, as someone may plan another run while this one goes on.
    """
    text = json.dumps(files)
    path = Path(".snakemake") / f"{rule}.{run}.{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    path.write_text(text)
    return path


def several(files: str | list[str]) -> list[str]:
    """A file, or several, as a list."""
    return [files] if isinstance(files, str) else list(files)
