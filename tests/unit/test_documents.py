"""Documents agree with the project: links, names, citations and targets lead somewhere, made pages are up to date."""

import re
from pathlib import Path

import jsonschema
import polars as pl
import pytest
import yaml
from configuration import fill_in
from test_claims import measured
from workflow_rules import workflow_rules

import selfrepair
from selfrepair.claims.statistics import STATISTICS, Tables, measure
from selfrepair.claims.verdicts import Claim
from selfrepair.report import claims_page

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("config/*.md"),
        ROOT / "results/README.md",
        *ROOT.glob("workflow/resources/**/NOTICE.md"),
    ]
)
CODE = sorted([*ROOT.glob("src/**/*.py"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("workflow/**/*.py")])
FOLDERS = ("src", "workflow", "config", "docs", "tests", "envs", "profiles", "paper", ".ci")
USERS_OWN = {"config/mine.yaml"}  # documents tell readers to write it
RULES = {rule.name for rule in workflow_rules()} | {"all"}
EXPERIMENTS, METHOD = ((ROOT / f"docs/{name}.md").read_text() for name in ("experiments", "method"))


def anchors(text: str) -> set[str]:
    """Fragments that lead into a page: of its headings, as GitHub makes them, and those that it sets."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in headings} | set(
        re.findall(r'<a id="([^"]+)">', text)
    )


def part(text: str, heading: str) -> str:
    """A section of a page, up to the next heading of its level."""
    level = heading.split()[0]
    return re.search(rf"^{re.escape(heading)}$(.*?)(?=^{level} |\Z)", text, re.MULTILINE | re.DOTALL)[1]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if not link.startswith("http"):
            file, _, fragment = link.partition("#")
            target = (path.parent / file).resolve() if file else path
            assert target.exists(), f"{path.name} links to {link}"
            assert not fragment or fragment in anchors(target.read_text()), f"{path.name} links to {link}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_named_exist(path: Path) -> None:
    text = re.sub(r"^```diff\n.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for name in re.findall(r"`([\w.][\w./<>*-]*)`", text):
        if name.split("/")[0] in FOLDERS and "/" in name and name not in USERS_OWN:
            assert list(ROOT.glob(re.sub(r"<\w+>", "*", name).rstrip("/"))), f"{path.name} names {name}"


def test_cited_sections_exist() -> None:
    """Docstrings cite docs/experiments.md and docs/method.md by the numbers of their sections and rows."""
    sections = set(re.findall(r"^### (a\.\d+) ", EXPERIMENTS, re.MULTILINE))
    letters = set(re.findall(r"^## ([a-e])\. ", EXPERIMENTS, re.MULTILINE))
    numbers = set(re.findall(r"^\| (\d+[a-d]?) \|", part(EXPERIMENTS, "## c. Published numbers"), re.MULTILINE))
    pitfalls = set(re.findall(r'<a id="(pitfall-[\w-]+)">', EXPERIMENTS))
    steps = set(re.findall(r"^## (\d)\. ", METHOD, re.MULTILINE))
    cited = 0
    for path in CODE:
        text = path.read_text()
        for cite in re.findall(r"experiments\.md ([^\n;:\"]*)", text):
            found = re.findall(r"\ba\.\d+", cite), re.findall(r"(?<![\w.])\(?([b-e])\b(?!\.\d)", cite)
            assert set(found[0]) <= sections and set(found[1]) <= letters, f"{path.name}: {cite}"
            if in_c := re.search(r"(?:\(c\) |c\.)(\d.*)", cite):
                assert set(re.findall(r"\d+[a-d]?", in_c[1].split(", pitfall")[0])) <= numbers, f"{path.name}: {cite}"
            cited += 1
        assert {f"pitfall-{name}" for name in re.findall(r"\bpitfall:([\w-]+)", text)} <= pitfalls, path.name
        assert set(re.findall(r"method\.md section (\d)", text)) <= steps, path.name
    assert cited > 20


def test_every_pitfall_is_decided() -> None:
    rows = re.findall(r'^\| <a id="pitfall-([\w-]+)"></a>`([\w-]+)` \| (.+) \| (.+) \|$', EXPERIMENTS, re.MULTILINE)
    assert len(rows) == 22 and all(anchor == name for anchor, name, *_ in rows)


def test_every_figure_has_its_place_beside_the_papers() -> None:
    table = part(EXPERIMENTS, "## b. The paper's figures, and ours")
    ours = {name for line in table.splitlines() if line.startswith("| ") for name in ticked(line.split(" | ")[-1])}
    assert {f"figure_{name}" for name in ours} == {rule for rule in RULES if rule.startswith("figure_")}


def ticked(text: str) -> list[str]:
    return re.findall(r"`(\w+)`", text)


def test_the_claims_page_is_up_to_date() -> None:
    listed = yaml.safe_load((ROOT / "config/claims.yaml").read_text())["claims"]
    page = claims_page.claims_page([Claim(**entry) for entry in listed])
    assert (ROOT / "docs/claims.md").read_text() == page, "run workflow/scripts/document_claims.py"
    assert all(f"| `{entry['id']}` |" in page for entry in listed)


@pytest.mark.parametrize("name", STATISTICS)
def test_evidence_names_the_tables_that_a_statistic_reads(name: str) -> None:
    seen = set()

    class Watched(dict):
        def __getitem__(self, table: str) -> object:
            seen.add(table)
            return super().__getitem__(table)

    class WithLayers(Tables):
        n_layers = 4

    measure(name, WithLayers(Watched(measured().named)))
    assert set(claims_page.EVIDENCE[name][0]) == seen


def test_evidence_exists() -> None:
    assert list(claims_page.EVIDENCE) == list(STATISTICS)
    worked = (ROOT / claims_page.STATISTIC_TEST).read_text()
    assert all(f'("{name}", ' in worked for name in STATISTICS), "a statistic without a hand-worked case"
    figures = {figure for _, figure in claims_page.EVIDENCE.values()}
    assert figures == set(claims_page.FIGURES)
    sources = [*claims_page.TABLES.values(), *map(claims_page.drawn, figures)]
    for source in sources:
        assert source.rule in RULES
        module = Path(source.module)
        assert (ROOT / module).is_file()
        assert re.search(rf"\b{module.stem}\b", (ROOT / source.test).read_text()), f"{source.test} lacks {module}"


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target for path in DOCUMENTS for target in re.findall(r"(?:^|`)make ([\w-]+)", path.read_text(), re.MULTILINE)
    }
    assert {"replicate", "test"} <= named <= targets


def test_a_file_with_name_and_models_becomes_a_whole_configuration() -> None:
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    demo = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    filled = {key: demo[key] for key in ("run", "models")} | {"ablation": {"kinds": ["resample", "zero"]}}
    fill_in(filled, schema)
    jsonschema.validate(filled, schema)
    assert set(filled) == {*demo, "null_twins"} - {"family"} and filled["ablation"]["kinds"] == ["resample", "zero"]
    assert all(set(filled[key]) == set(demo[key]) for key in ("ablation", "analysis", "experiments"))


def test_expected_times_are_those_of_the_benchmark() -> None:
    methods = pl.read_csv(ROOT / "docs/benchmark/methods.csv").filter(method="sweep")
    measured = {f"{us:.0f} for {model}" for model, us in methods.select("model", "us").rows()}
    words = (ROOT / "config/paper-quick.yaml").read_text().replace("\n# ", " ")
    assert measured and all(time in words for time in measured)


def test_the_citation_is_whole() -> None:
    """The fields that the Citation File Format 1.2.0 requires, and the version of the package."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation) and citation["cff-version"] == "1.2.0"
    assert citation["version"] == selfrepair.__version__ and citation["license"] == "MIT"
    assert citation["type"] == "software"
    (paper,) = citation["references"]
    assert {"type", "title", "authors"} <= set(paper)
    entry = (ROOT / "paper/references.bib").read_text().split("@")[1]
    assert paper["title"] in entry and str(paper["year"]) in entry
    assert all(author["family-names"] in entry for author in paper["authors"])


def test_the_changelog_knows_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[(Unreleased|{re.escape(selfrepair.__version__)})\]", text, re.MULTILINE)
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds and kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_licences_of_what_is_shipped_are_there() -> None:
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    for folder in (ROOT / "workflow/resources").glob("*/"):
        notices = [*folder.glob("NOTICE.md"), *folder.glob("*/NOTICE.md")]
        assert notices and all("licence" in path.read_text() for path in notices)
    licence = ROOT / "workflow/resources/corpora/python-stdlib/LICENSE.txt"
    assert "PYTHON SOFTWARE FOUNDATION LICENSE" in licence.read_text()
