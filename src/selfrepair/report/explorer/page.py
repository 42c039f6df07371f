"""The page of the explorer: the data of one or several runs, the charts, and the library that draws them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined

from selfrepair.analysis.overview import read_models
from selfrepair.core.files import write_text
from selfrepair.report.explorer.charts import charts, words

DATA = "explorer.json"  # within a model's folder under analysis
SCRIPTS = ("state", "charts", "grid", "head", "contexts", "page")  # in this order they make one program


@dataclass(frozen=True)
class Run:
    """A run: its name, and by model the JSON of `data.model_data`."""

    name: str
    models: dict[str, str]


def read_run(folder: Path) -> Run:
    """Read the explorer's data of a run from its folder of results.

    Raises:
        FileNotFoundError: there is none; the message says how to get it.
    """
    listed = folder / "analysis/models.csv"
    if not listed.is_file():
        raise FileNotFoundError(f"{listed} is missing; {folder} is no folder of a finished run")
    data = {}
    for model in read_models(listed)["model"]:
        path = folder / "analysis" / model / DATA
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; make it with `snakemake {path}`")
        data[model] = path.read_text()
    return Run(folder.resolve().name, data)


def page(runs: list[Run]) -> str:
    """Write the page of some runs, complete in itself.

    Raises:
        ValueError: two runs have the same name.
    """
    names = [run.name for run in runs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two runs are named {', '.join(twice)}; the explorer tells runs apart by the folder's name")
    index: list[dict[str, Any]] = []
    data: dict[str, str] = {}
    for r, run in enumerate(runs):
        ids = {model: f"data-{r}-{m}" for m, model in enumerate(run.models)}
        index.append({"name": run.name, "models": [{"name": model, "data": ids[model]} for model in run.models]})
        data |= {ids[model]: text for model, text in run.models.items()}
    loader = PackageLoader("selfrepair.report")
    environment = Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters["inert"] = inert
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return environment.get_template("explorer/page.html.j2").render(
        title=f"Self-repair explorer: {', '.join(names)}",
        style=loader.get_source(environment, "explorer/page.css")[0],
        library=vl_convert.javascript_bundle(vl_version=version),
        script="\n".join(loader.get_source(environment, f"explorer/{name}.js")[0] for name in SCRIPTS),
        index=json.dumps({"runs": index, "words": words(), "charts": charts()}),
        data=data,
    )


def inert(text: str) -> str:
    """JSON that can stand in a script element: no tag can end it or begin within it."""
    return text.replace("<", "\\u003c")


def write_page(runs: list[Path], output: Path) -> None:
    """Write the explorer of one or several runs as one HTML file that needs no network.

    Args:
        runs: folders of results, such as results/demo.
        output: HTML file to write.

    Raises:
        FileNotFoundError: a folder holds no finished run.
        ValueError: two runs have the same name.
    """
    write_text(output, page([read_run(folder) for folder in runs]))
