"""The paper: every number is a macro, every macro exists, and its archive is reproducible and compiles."""

import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from test_claims import HEADS, LAYERS, measured
from test_findings import LISTED as LISTED_STUDIES
from test_findings import found
from test_norm_table import norm_rows
from test_overview import FACT
from test_overview import heads as overview_heads
from test_tables import statistics

from selfrepair.analysis.overview import overview
from selfrepair.analysis.wide import wide
from selfrepair.claims.verdicts import Claim, Model, evaluate
from selfrepair.core.tables import frame
from selfrepair.report import claims_table, norm_table, tables, typeset
from selfrepair.report import costs as cost_table
from selfrepair.report.arms import table_of_arms
from selfrepair.report.findings import table_of_findings
from selfrepair.report.macros import RANGES, definitions, macros
from tests.helpers.study_drawings import differences_table, family_tables

ROOT = Path(__file__).parents[2]
MAIN = (ROOT / "paper/main.tex").read_text()
RECORD = {
    "config": {
        "run": "de_mo",
        "seed": 1,
        "tokens": {"corpus": "text", "row_length": 128},
        "analysis": {"top_fraction": 0.02, "bootstrap_replicates": 1000},
    },
    "python": "3.11.7",
    "machine": {"cores": 2, "processor": "A&B (R) 3", "memory_mb": 25_769},
}
COSTS = frame(
    {
        "rule": ["ablate_heads", "fold_model"],
        "jobs": [18, 3],
        "wall_time": [500.0, 100.0],
        "cpu_time": [900.0, 100.0],
        "gpu_time": [0.0, 0.0],
        "memory": [1000.0, 2000.0],
    },
    cost_table.COSTS,
)
WHOLE = overview([FACT | {"name": "m", "n_layers": 4}], {"m": overview_heads()}, {})
FINDINGS = table_of_findings(ROOT / "config/studies.yaml", found(["m", "m-shuffled"]))[0]
SAID = yaml.safe_load((ROOT / "paper/statements.yaml").read_text())
LISTED = yaml.safe_load((ROOT / "config/claims.yaml").read_text())["claims"]


@pytest.fixture(scope="module")
def judged() -> list[dict]:
    return evaluate([Claim(**entry) for entry in LISTED], {"m": Model(measured(), parallel=True)})


def of_paper(judged: list[dict], **changes: Any) -> dict[str, str]:
    """The macros of a small run, with some arguments of `macros` changed."""
    arguments: dict[str, Any] = {
        "record": RECORD,
        "models": WHOLE,
        "heads": wide(statistics("m", HEADS), "top"),
        "layers": wide(statistics("m", LAYERS), "top"),
        "claims": judged,
        "costs": COSTS,
        "listed": SAID,
        "findings": FINDINGS,
        "studies": LISTED_STUDIES,
    }
    return macros(**arguments | changes)


@pytest.fixture(scope="module")
def values(judged: list[dict]) -> dict[str, str]:
    return of_paper(judged, studied=judged, family=family_tables())


def test_numbers_are_those_of_the_tables(values: dict[str, str]) -> None:
    assert values["TopPercent"] == "2" and values["ConfidenceLevel"] == "95"
    assert values["RunName"] == r"de\_mo"
    assert values["PeakLayerByModel"] == r"$0.60$ [$0.50$, $0.70$] in layer $2$ of \texttt{m}"
    assert values["MostRepairedHeadByModel"] == r"L2H0 of \texttt{m} ($3.00$, $1.50$ [$1.40$, $1.60$])"
    assert values["EarlyBreakageByModel"] == r"$-0.400$ [$-0.500$, $-0.300$] (\texttt{m})"
    assert values["SizeOfRepairRange"] == "$0.20$" and values["SizeOfRepairPaper"] == "$0.40$"
    assert values["ClaimsHeld"] == "$0$" and values["PaperModelCount"] == "$7$"
    assert values["LossByModel"] == "not known for the models of this run"
    assert values["ParameterRange"] == r"$12\,345$"
    assert values["CostJobs"] == "$21$" and values["CostWallMinutes"] == "$10$" and values["CostMemory"] == "$2.1$"
    assert values["CostLongestRule"] == r"\texttt{ablate\_heads}" and values["CostLongestShare"] == "$90$"


def test_claims_are_counted_once(values: dict[str, str]) -> None:
    listed = [entry for entry in LISTED if not entry.get("identity") and not entry.get("exploratory")]
    assert len(listed) < len(LISTED) - 1
    names = [name for name in values if name.startswith("Claims") or name == "ClaimCount"]
    count = {name: int(values[name].strip("$")) for name in names if name != "ClaimsByChance"}
    assert values["ClaimsByChance"] == f"${0.025 * count['ClaimsWithStatistic']:.1f}$"
    assert count["ClaimCount"] == len(listed) == count["ClaimsWithStatistic"] + count["ClaimsWithoutStatistic"]
    verdicts = ("ClaimsHeld", "ClaimsNotHeld", "ClaimsUndecided", "ClaimsNotMeasured")
    assert count["ClaimsWithStatistic"] == sum(count[name] for name in verdicts) == count["ClaimsNotMeasured"]


def test_every_macro_of_the_paper_is_generated(values: dict[str, str]) -> None:
    own = set(re.findall(r"\\newcommand\{\\(\w+)\}", MAIN))
    used = set(re.findall(r"\\([A-Z][a-z]+[A-Za-z]*)", MAIN))
    tex = {"Bigl", "Bigr", "Delta", "LTleft", "LTright", "IfFileExists"}
    assert used - own - tex <= set(values)
    assert len(used & set(values)) > 30


def test_claims_on_more_models_than_an_upright_page_holds_are_turned(judged: list[dict]) -> None:
    def orientation(n_models: int) -> str:
        claims = [
            claim | {"models": [entry | {"model": f"m{i}"} for entry in claim["models"][:1] for i in range(n_models)]}
            for claim in judged
        ]
        return of_paper(claims, listed={})["OrientationOfClaims"]

    assert [orientation(n) for n in (0, 3, 4, 7)] == ["portrait", "portrait", "landscape", "landscape"]


def test_without_other_runs_the_paper_says_nothing_of_them(judged: list[dict]) -> None:
    alone = of_paper(judged)
    assert [name for name in alone if "Study" in name] == ["StudyModels"]
    assert not any(name.startswith(("Family", "Onset", "Evidence")) for name in alone)


def test_no_number_is_typed_in_the_prose() -> None:
    body = MAIN[MAIN.index(r"\begin{abstract}") : MAIN.index(r"\bibliographystyle")]
    body = re.sub(r"\\begin\{(equation|figure|table)\}.*?\\end\{\1\}", "", body, flags=re.DOTALL)
    body = re.sub(r"\\(?:\w*cite\w*|ref|eqref|label|setlength\{\\tabcolsep\})\{[^}]*\}", "", body)
    for fixed in ("GPT-2", "r^2", "$10^{-4}$", "from 0 for the first layer to 1"):
        body = body.replace(fixed, "")
    assert re.findall(r"[^\n]*\d[^\n]*", body) == []


def test_models_with_heads_left_out_have_no_sentences_about_layers_or_heads(judged: list[dict]) -> None:
    heads, layers = wide(statistics("m", HEADS), "top"), wide(statistics("m", LAYERS), "top")
    partial = of_paper(judged, heads=heads.head(3))
    for name in ("PeakLayerByModel", "FirstLayerByModel", "MostRepairedHeadByModel"):
        assert partial[name] == "not measured"
    with pytest.raises(pl.exceptions.NoRowsReturnedError):
        of_paper(judged, layers=layers.filter(pl.col("layer") > 0))


def test_no_macro_of_a_fact_is_unused(values: dict[str, str]) -> None:
    of_claims = {name for name in values if name.endswith(("ByModel", "Range", "Paper", "Null"))}
    of_claims |= {name for name in values if name.startswith(("Finding", "Family", "Onset", "Evidence"))}
    assert {name for name in set(values) - of_claims if f"\\{name}" not in MAIN} == set()
    assert all(f"\\{name}" in MAIN for name in RANGES)


def test_definitions_are_tex_and_refuse_digits() -> None:
    assert definitions({"Seed": "1"}) == "\\newcommand{\\Seed}{1}\n"
    with pytest.raises(ValueError, match="letters only: Layer2"):
        definitions({"Layer2": "1"})


def test_a_record_that_lacks_a_fact_is_refused(judged: list[dict]) -> None:
    short = RECORD | {"config": {key: value for key, value in RECORD["config"].items() if key != "seed"}}
    with pytest.raises(KeyError, match=r"config\.seed"):
        of_paper(judged, record=short)


def blank_pdf() -> bytes:
    """Return a PDF of one empty page."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>"]
    objects.append(b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 90 60]>>")
    file, places = b"%PDF-1.4\n", []
    for index, content in enumerate(objects, 1):
        places.append(len(file))
        file += b"%d 0 obj%sendobj\n" % (index, content)
    start = len(file)
    file += b"xref\n0 4\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    return file + b"trailer<</Size 4/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % start


@pytest.fixture
def archive(tmp_path: Path, values: dict[str, str], judged: list[dict]) -> Path:
    (tmp_path / "macros.tex").write_text(definitions(values))
    (tmp_path / "claims.json").write_text(json.dumps({"claims": judged}))
    models = overview([FACT], {"m": overview_heads()}, {})
    written_tables = {
        "models": tables.models(models),
        "layers": tables.layers(wide(statistics("m", LAYERS), "top")),
        "heads": tables.heads(wide(statistics("m", HEADS), "top")),
        "norm": norm_table.norm(norm_rows(("m",), ("resample",))),
        "findings": table_of_findings(ROOT / "config/studies.yaml", found(["m", "m-shuffled"])),
        "claims": claims_table.claims_table(judged),
        "features": table_of_arms(differences_table()),
        "claims_of_studies": claims_table.claims_of_studies([tmp_path / "claims.json"]),
    }
    for name, (_, tex) in written_tables.items():
        (tmp_path / f"{name}.tex").write_text(tex)
    names = re.findall(r"figures/([\w.]+)\.pdf", MAIN.replace(r"\FirstModel", values["FirstModel"]))
    figures = [tmp_path / f"{name}.pdf" for name in sorted(set(names))]
    for path in figures:
        path.write_bytes(blank_pdf())
    paper, written = ROOT / "paper", [tmp_path / f"{name}.tex" for name in written_tables]
    for output in ("source.zip", "again.zip"):
        typeset.write_source(
            tmp_path / output, paper / "main.tex", paper / "references.bib", tmp_path / "macros.tex", written, figures
        )
        written, figures = written[::-1], figures[::-1]
    return tmp_path / "source.zip"


def test_archive_holds_everything_and_is_reproducible(archive: Path) -> None:
    assert archive.read_bytes() == (archive.parent / "again.zip").read_bytes()
    with zipfile.ZipFile(archive) as opened:
        names = opened.namelist()
        assert "apt-get install texlive-latex-recommended latexmk" in opened.read("HOW_TO_TYPESET.txt").decode()
    assert names == sorted(names)
    inputs = [f"{name}.tex" for name in re.findall(r"input\{((?:tables/)?\w+)\}", MAIN)]
    assert {"main.tex", "references.bib", *inputs} <= set(names)


@pytest.mark.skipif(not shutil.which("latexmk"), reason="needs latexmk")
def test_paper_compiles_and_twice_alike(archive: Path) -> None:
    pdf, again = archive.with_name("paper.pdf"), archive.with_name("again.pdf")
    typeset.typeset(archive, pdf)
    typeset.typeset(archive, again)
    assert pdf.read_bytes().startswith(b"%PDF") and pdf.read_bytes() == again.read_bytes()


@pytest.mark.skipif(not shutil.which("latexmk"), reason="needs latexmk")
def test_an_error_of_tex_is_shown(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("main.tex", "\\documentclass{article}\\begin{document}\\nonsense\\end{document}")
    with pytest.raises(typeset.TypesetError, match="Undefined control sequence"):
        typeset.typeset(tmp_path / "bad.zip", tmp_path / "paper.pdf")
    assert not (tmp_path / "paper.pdf").exists()


def test_without_an_engine_the_way_to_get_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(typeset.TypesetError, match="apt-get install texlive-latex-recommended latexmk"):
        typeset.typeset(tmp_path / "source.zip", tmp_path / "paper.pdf")


def test_references_citations_and_bibliography_are_in_step() -> None:
    assert set(re.findall(r"ref\{([\w:]+)\}", MAIN)) <= set(re.findall(r"\\label\{([\w:]+)\}", MAIN))
    cited = set(re.findall(r"\\cite\w\{(\w+)\}", MAIN))
    assert cited == set(re.findall(r"@\w+\{(\w+),", (ROOT / "paper/references.bib").read_text()))
