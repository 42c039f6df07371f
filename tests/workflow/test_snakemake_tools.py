"""Snakemake's own tools on this workflow: list, rule graph, report, and what catalogues of workflows ask for."""

import html
import json
import re
from pathlib import Path
from zipfile import ZipFile

import yaml
from rule_graph import read_edges, readable, to_dot

from selfrepair.report.captions import caption_of
from tests.workflow.conftest import ROOT, Clone

CAPTIONS = yaml.safe_load((ROOT / "workflow/report/captions.yaml").read_text())
DEMO = "config/demo.yaml"


def test_every_rule_is_listed_with_what_it_does(clone: Clone) -> None:
    done = clone.run("--list-rules", config=DEMO)
    assert done.returncode == 0, done.stdout
    listed = dict(re.findall(r"^(\w+)(| \(.+\))$", done.stdout, re.MULTILINE))
    assert {"all", "ablate_heads", "figure_responders"} <= set(listed) and all(listed.values())


def test_the_drawn_rule_graph_is_that_of_the_default_run(clone: Clone) -> None:
    done = clone.run("--rulegraph", "dot", "all", "results/demo/paper/paper.pdf", config=DEMO)
    assert done.returncode == 0, done.stdout
    edges = readable(read_edges(done.stdout))
    titles = {
        html.unescape(title) for title in re.findall(r"<title>(.*?)</title>", (ROOT / "docs/rules.svg").read_text())
    }
    drawn = {tuple(title.split("->")) for title in titles if "->" in title}
    assert drawn == edges and len(edges) > 30, "draw docs/rules.svg anew with `make rulegraph`"


def test_a_readable_graph_joins_groups_and_leaves_out_what_follows() -> None:
    dot = 'digraph {\n\t0[label = "all"];\n\t1[label = "figure_a"];\n\t2[label = "figure_b"];\n\t3[label = "sample"];\n'
    dot += '\t4[label = "measure"];\n\t1 -> 0\n\t2 -> 0\n\t3 -> 4\n\t4 -> 1\n\t4 -> 2\n\t3 -> 1\n}'
    edges = readable(read_edges(dot))
    assert edges == {("sample", "measure"), ("measure", "figure_*")}
    kinds = {"sample": "measure", "measure": "measure", "figure_a": "draw", "figure_b": "draw"}
    assert to_dot(edges, kinds).count("fillcolor") == 3


def test_the_workflow_also_starts_where_catalogues_look_for_it(clone: Clone) -> None:
    assert clone.plan(targets=["--snakefile", "workflow/Snakefile"]) == clone.plan()


def test_the_catalogue_is_told_what_it_asks() -> None:
    settings = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(settings) == {"mandatory-flags", "software-stack-deployment"}
    assert set(settings["software-stack-deployment"]) == {"conda", "apptainer", "apptainer+conda", "report"}


def test_configuration_is_explained_key_by_key_and_file_by_file() -> None:
    page = (ROOT / "config/README.md").read_text()
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    names = [*schema["properties"], *(path.name for path in (ROOT / "config").glob("*.yaml"))]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_snakemakes_report_shows_figures_and_tables_with_their_captions(finished: Clone) -> None:
    done = finished.run("--report", "report.zip")
    assert done.returncode == 0, done.stdout
    page = ZipFile(finished.root / "report.zip").read("report/report.html").decode()
    entries = json.loads(re.search(r"var results = (\{.*\});", page)[1])
    made = finished.root / "results/test"
    expected = {
        f"results/test/{path.relative_to(made)}" for path in [*made.glob("figures/*.svg"), *made.glob("tables/*.csv")]
    }
    pages = {f"results/test/report/{page}.html" for page in ("report", "explorer")}
    assert expected and expected | pages <= set(entries) <= expected | pages | {"results/test/paper/paper.pdf"}
    for path in expected:
        caption = html.unescape(re.sub(r"<[^>]+>", "", entries[path]["caption"])).split()
        assert caption == caption_of(Path(path), CAPTIONS).text.split(), path
        assert "{" not in entries[path]["labels"]["title"]
