"""The record of a finished run as an RO-Crate: `ro-crate-metadata.json` in the folder of the run, which is its root.

RO-Crate 1.2 with the profile Process Run Crate 0.5. Results are data entities with size and SHA-256. Inputs and the
Snakefile lie outside the folder, so they are files with a local identifier and a `localPath` from it, as RO-Crate 1.2
wants it. Snakemake is the software that ran, with the packages that it needed; the Snakefile is one of its objects, not
a workflow of the crate, which would have to lie inside. Configuration, machine, packages and the date are those of
`provenance.run_record`; what each rule took is in `cost_table.COSTS`. There are no times of start and end: no file of a
run says when it was made in a way that a repetition would repeat.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

import polars as pl

from selfrepair.core.files import sha256, write_text
from selfrepair.report.costs import COSTS
from selfrepair.report.html import flatten

METADATA = "ro-crate-metadata.json"
RUN_RECORD = "report/run.json"
SPECIFICATION = "https://w3id.org/ro/crate/1.2"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
CONTEXT = [
    f"{SPECIFICATION}/context",
    {"resourceUsage": "https://w3id.org/ro/terms/workflow-run#resourceUsage"},
]
LICENSE = "https://spdx.org/licenses/MIT"
SNAKEMAKE = "https://snakemake.github.io"
FORMATS = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".tex": "application/x-tex",
    ".tsv": "text/tab-separated-values",
    ".txt": "text/plain",
    ".yaml": "application/yaml",
    ".zip": "application/zip",
}
UNITS = {"s": "https://qudt.org/vocab/unit/SEC", "MiB": "https://qudt.org/vocab/unit/MebiBYTE"}
# Of `provenance.run_record`: what is true of the run as a whole.
CIRCUMSTANCES = ("version", "commit", "date", "modified", "python", "machine", "devices", "precisions")
Entity = dict[str, Any]


class CrateError(ValueError):
    """A record that is not there or can't be read; the message names it and the fix."""


@dataclass(frozen=True)
class Sources:
    """What a run was made from, as paths from where the workflow runs.

    Attributes:
        inputs: files that were read: the Snakefile, weights, tokenizers, corpus, claims, published values.
        models: directory of each measured model, by the name that results call it.
    """

    inputs: list[Path]
    models: dict[str, Path]


@dataclass(frozen=True)
class Crate:
    """A record as it is read back.

    Attributes:
        root: folder of the run.
        files: SHA-256 of each result, by its path from `root`.
        inputs: SHA-256 of each input, by its path from `root`, or its absolute path.
        models: directory of each measured model, likewise.
    """

    root: Path
    files: dict[str, str]
    inputs: dict[str, str]
    models: dict[str, str]

    def path(self, name: str) -> Path:
        """Where a file of the record is; `..` goes up as written, also where the folder of the run is a link."""
        return Path(os.path.normpath(self.root / name))

    @property
    def run_record(self) -> dict[str, Any]:
        """`report/run.json`."""
        return json.loads((self.root / RUN_RECORD).read_text())


def run_crate(root: Path, record: dict[str, Any], files: list[Path], sources: Sources, costs: pl.DataFrame) -> Entity:
    """Describe a run.

    Args:
        root: folder of the run.
        record: `provenance.run_record`.
        files: what the run made, in `root`.
        costs: table of `COSTS`.

    Returns:
        the document, JSON-LD.
    """
    graph: list[Entity] = []

    def add(entity: Entity) -> Entity:
        """Take in an entity; return the reference to it."""
        graph.append(entity)
        return {"@id": entity["@id"]}

    inputs = {path: _file(path, root) for path in sorted(sources.inputs)}
    made = {path: _file(path, root) for path in sorted(files) if path not in inputs}
    results = [add(entity) for entity in made.values()]
    objects = [add(entity) for entity in inputs.values()]
    objects += [add(value) for value in _values("config", record["config"])]
    required = [
        add(_application(_local(f"package-{name}"), name, version, f"https://pypi.org/project/{name}/"))
        for name, version in record["packages"].items()
        if name not in ("selfrepair", "snakemake")  # the former is at no address, which software must have
    ]
    snakemake = add(
        _application(SNAKEMAKE, "Snakemake", record["snakemake"], SNAKEMAKE) | {"softwareRequirements": required}
    )
    for name, folder in sources.models.items():
        add(_model(name, folder, root, {path: e for path, e in inputs.items() if path.is_relative_to(folder)}))
    circumstances = {name: record[name] for name in CIRCUMSTANCES}
    run = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"Run {record['config']['run']}",
        "description": "Snakemake with the Snakefile and the configuration that are among the objects of this action.",
        "instrument": snakemake,
        "object": objects,
        "result": results,
        "additionalProperty": [add(value) for value in _values("made-with", circumstances)],
    }
    actions = [add(run)]
    for cost in costs.to_dicts():
        rule = {"@id": _local(f"rule-{cost['rule']}"), "@type": "CreateAction", "instrument": snakemake}
        rule |= {"name": cost["rule"], "description": f"All {cost['jobs']} jobs of this rule."}
        actions.append(add(rule | {"resourceUsage": [add(usage) for usage in _usages(cost)]}))
    parts = [{"@id": e["@id"]} for e in (*made.values(), *inputs.values()) if "localPath" not in e]
    return {"@context": CONTEXT, "@graph": [*_frame(record, parts, actions), *graph]}


def files_in(path: Path) -> list[Path]:
    """The file itself, or all files of a directory but hidden ones, in which downloads keep their books."""
    if not path.is_dir():
        return [path]
    inside = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
    return sorted(path / file for file in inside if not any(part.startswith(".") for part in file.parts))


def read_crate(root: Path) -> Crate:
    """Read the record of a run.

    Raises:
        CrateError: there is no such run, no record, it can't be read, or it names a result outside the run's folder.
    """
    path = root / METADATA
    if not root.is_dir():
        others = sorted(record.parent.name for record in root.parent.glob(f"*/{METADATA}"))
        raise CrateError(f"{root} does not exist; runs with a record here: {', '.join(others) or 'none'}")
    if not path.is_file():
        raise CrateError(
            f"{path} is missing, so the run is not finished: `snakemake --cores all`, with the configuration of the "
            "run, goes on with it and writes the record last"
        )
    try:
        record = json.loads((root / RUN_RECORD).read_text())
        if missing := {"config", "commit", "modified"} - record.keys():
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    except (OSError, ValueError, AttributeError) as error:
        raise CrateError(f"{root / RUN_RECORD} can't be read ({error}): run Snakemake again to make it") from error
    try:
        graph = json.loads(path.read_text())["@graph"]
        listed = [entity for entity in graph if "sha256" in entity]
        return Crate(
            root=root,
            files={_inside(unquote(e["@id"])): e["sha256"] for e in listed if "localPath" not in e},
            inputs={e["localPath"]: e["sha256"] for e in listed if "localPath" in e},
            models={e["name"]: e["localPath"] for e in graph if e["@type"] == "Dataset" and "localPath" in e},
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CrateError(f"{path} is damaged ({error!r}): delete it and run Snakemake again to make it") from error


def _inside(name: str) -> str:
    """A result's path, which may not lead out of the folder of the run: verifying reads it, and an archive packs it."""
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts:
        raise ValueError(f"{name} is no file in the run's folder")
    return name


def _frame(record: dict[str, Any], parts: list[Entity], actions: list[Entity]) -> list[Entity]:
    """The descriptor, the root and what both refer to."""
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Self-repair in language models: run {record['config']['run']}",
        "description": "Measured self-repair of every attention head, statistics, figures, tables, verdicts on claims.",
        "conformsTo": {"@id": PROFILE},
        "license": {"@id": LICENSE},
        "hasPart": parts,
        "mentions": actions,
        "datePublished": record["date"],
    }
    return [
        {
            "@id": METADATA,
            "@type": "CreativeWork",
            "conformsTo": {"@id": SPECIFICATION},
            "about": {"@id": "./"},
        },
        root,
        {"@id": PROFILE, "@type": ["CreativeWork", "Profile"], "name": "Process Run Crate", "version": "0.5"},
        {
            "@id": LICENSE,
            "@type": "CreativeWork",
            "name": "MIT License",
            "description": "Of the package and what it measured; text quoted from a corpus has the corpus's licence.",
        },
    ]


def _file(path: Path, root: Path) -> Entity:
    """A file: a part of the crate if it lies in `root`, else one with a local identifier and its path."""
    inside, relative = path.is_relative_to(root), _relative(path, root)
    entity = {
        "@id": quote(relative) if inside else _local(str(path)),
        "@type": "File",
        "name": relative if inside else str(path),
        "encodingFormat": FORMATS.get(path.suffix, "application/octet-stream"),
        "contentSize": str(path.stat().st_size),
        "sha256": sha256(path),
    }
    return entity if inside else entity | {"localPath": relative}


def _model(name: str, folder: Path, root: Path, files: dict[Path, Entity]) -> Entity:
    return {
        "@id": _local(f"model-{name}"),
        "@type": "Dataset",
        "name": name,
        "description": f"Directory of the model that results call {name}.",
        "localPath": _relative(folder, root),
        "hasPart": [{"@id": entity["@id"]} for entity in files.values()],
    }


def _application(identifier: str, name: str, version: str, url: str) -> Entity:
    return {"@id": identifier, "@type": "SoftwareApplication", "name": name, "version": version, "url": url}


def _values(kind: str, nested: dict[str, Any]) -> list[Entity]:
    """Each value of a nested record by its dotted key, but for those that are null."""
    return [
        {"@id": _local(f"{kind}-{key}"), "@type": "PropertyValue", "name": key, "value": value}
        for key, value in flatten(nested).items()
        if value is not None
    ]


def _usages(cost: dict[str, Any]) -> list[Entity]:
    """What the jobs of a rule took."""
    return [
        {
            "@id": _local(f"rule-{cost['rule']}-{name}"),
            "@type": "PropertyValue",
            "name": column.meaning,
            "propertyID": f"selfrepair:{name}",
            "unitCode": UNITS[column.unit],
            "value": str(round(cost[name], 3)),
        }
        for name, column in COSTS.items()
        if column.unit in UNITS
    ]


def _relative(path: Path, root: Path) -> str:
    return str(path) if path.is_absolute() else Path(os.path.relpath(path, root)).as_posix()


def _local(name: str) -> str:
    return f"#{quote(name)}"


def record_crate(run: Path, models: list[str], listed: Path) -> None:
    """Write the record of a run as an RO-Crate: results and inputs with SHA-256, code, configuration, machine, costs.

    Args:
        run: folder of the run, into which the record is written.
        models: directory of each measured model, as name=directory.
        listed: JSON file with the paths of what the run made, `files`, and of what it read, `inputs`; of a
            directory every file counts.
    """
    paths = {name: list(map(Path, of_kind)) for name, of_kind in json.loads(listed.read_text()).items()}
    inputs = [file for path in paths["inputs"] for file in files_in(path)]
    folders = {name: Path(folder) for name, _, folder in (model.partition("=") for model in models)}
    record, costs = json.loads((run / "report/run.json").read_text()), pl.read_csv(run / "report/costs.csv")
    crate = run_crate(run, record, paths["files"], Sources(inputs, folders), costs)
    write_text(run / METADATA, json.dumps(crate, indent=1) + "\n")
