"""The report: self-contained, escaped, verdicts in words, figures that cannot disturb each other, costs added up."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from test_overview import FACT, heads

from selfrepair.analysis.overview import overview
from selfrepair.report.html import Cost, costs, duration, figure, flatten, inline_svg, report, shown, total

ROOT = Path(__file__).parents[2]
CAPTIONS = yaml.safe_load((ROOT / "workflow/report/captions.yaml").read_text())
SVG = (
    '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9"><clipPath id="c"/>'
    '<g clip-path="url(#c)"><use href="#c"/></g></svg>\n'
)
RECORD = {
    "config": {"run": "demo <1>", "tokens": {"kinds": ["prose", "code"]}},
    "packages": {"polars": "2.1.0"},
    "jobs": {},
}
KINDS = [
    "self_repair_by_depth",
    "effect_scatter",
    "repair_split",
    "repair_share",
    "responders",
    "repair_by_depth",
    "repair_breakdown",
    "norm_scale",
    "norm_share",
    "ablation_types",
    "noise",
    "noise_components",
    "layer_units",
    "hand_off_share",
    "hand_off_matrix",
    "threshold",
    "attribution",
    "distributions",
    "repairers",
    "loss_saved",
    "training_loss",
    "layer_moving",
    "self_repression",
    "neuron_sparsity",
    "neuron_cumulative",
    "erasure_scatter",
    "neuron_histograms",
    "neuron_frequency",
    "reference_scatter",
    "as_published",
]
TABLES = ["findings", "pairs", "norm", "norm_check", "erasure_neurons", "iterative_summary", "published_norm_share"]
ELSEWHERE = [
    "architecture",
    "architecture_adaptation",
    "architecture_course",
    "architecture_loss",
    "features",
    "models",
    "layers",
    "heads",
    "claims",
    "claims_of_studies",
]  # of a family of trainings, tables of Snakemake's report, or shown in another way


def claim(**changes) -> dict:
    entry = {"id": "early-breakage", "source": "Figure 1", "wording": "a < b & c", "about": ["gpt2-small"]}
    entry |= {"statistic": "early_repair", "unit": "logits", "combine": "each", "rule": "below 0"}
    entry |= {"paper_value": None, "paper_source": None, "verdict": "did not hold", "reason": "1 of its 1 models"}
    entry |= {"identity": False, "exploratory": False, "head": None, "against": "twin"}
    entry |= {"others": {"held": ["m"], "did not hold": [], "undecided": [], "models": 1}}
    entry |= {"bound_reason": "our tolerance; <reason>", "contradiction": None}
    entry |= {"measured": {"value": -0.25, "low": -0.5, "high": 0.125}, "models": []}
    return entry | changes


def other(model: str) -> dict:
    numbers = {"value": 0.5, "low": None, "high": None, "paper_value": None, "holds": True, "interval_agrees": None}
    numbers |= {"null": 0.125, "null_low": 0.0, "null_high": 0.25, "beyond_low": 0.2, "beyond_high": 0.6}
    return numbers | {"model": model, "role": "other model", "verdict": "held"}


@pytest.fixture
def page(tmp_path: Path) -> str:
    paths = [tmp_path / "effect_scatter.tiny.v2.resample.svg", tmp_path / "training_loss.svg"]
    for path in paths:
        path.write_text(SVG)
    claims = [
        claim(models=[other("m")]),
        claim(id="tiny", models=[other("m") | {"value": -0.0002}]),
        claim(id="near", verdict="held", models=[other("m") | {"holds": None, "verdict": "not measured"}]),
        claim(id="share", paper_value=0.3, contradiction={"paper_value": 0.21, "paper_source": "their files"}),
        claim(id="check", verdict="held", identity=True),
        claim(id="explored", verdict="held", exploratory=True, head="L1H2"),
        claim(id="b", statistic=None, verdict="not measured", measured=None),
    ]
    verdicts = {"claims": claims, "recognised": {FACT["name"]: {"paper_name": "gpt2-small", "by": "shape"}}}
    verdicts |= {"expected_by_chance": 0.6}
    tables = [tmp_path / "a" / "norm_check.csv", tmp_path / "b" / "norm_check.csv"]
    for path, section in zip(tables, ("x <b>", "y"), strict=True):
        path.parent.mkdir()
        path.write_text(f"model,mean\n{section},-0.12345\n{section},\n")
    captions = CAPTIONS | {"norm_check": CAPTIONS["norm_check"] | {"section": CAPTIONS["training_loss"]["section"]}}
    models = overview([FACT], {"m": heads()}, {})
    figures = [figure(path, captions) for path in paths]
    costs, kept = [Cost("fold_model", 2, 90, 60, 0, 1e3)], {"big <m>": {"tiny": other("big <m>")}}
    return report(RECORD, models, verdicts, figures, shown(tables, captions), costs, kept)


def test_page_loads_nothing_from_elsewhere(page: str) -> None:
    assert not re.search(r"""(?:src|href|action|data)\s*=\s*["']?(?!#)[a-z]*:?//""", page)
    assert not re.search(r"@import|url\((?!#)|<script|<link|<iframe", page)
    loaded = re.findall(r"https?://[^\"' <]+", page)
    assert set(loaded) <= {"http://www.w3.org/2000/svg"}, "only the name of SVG's namespace"


def test_page_is_well_formed_html_with_language_title_and_one_heading(page: str) -> None:
    void, stack = {"meta", "link", "br", "img", "path", "clippath"}, []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in void:
                stack.append(tag)

        def handle_startendtag(self, tag: str, attrs: object) -> None:
            pass

        def handle_endtag(self, tag: str) -> None:
            if tag not in void:
                assert stack.pop() == tag

    Checker().feed(page)
    assert stack == []
    assert page.startswith('<!DOCTYPE html>\n<html lang="en">') and page.count("<h1>") == 1
    assert "<title>Self-repair in language models: run demo &lt;1&gt;</title>" in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "ids are unique though two figures use the same ones"
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def test_text_is_escaped_and_verdicts_are_words(page: str) -> None:
    assert "a &lt; b &amp; c" in page and "a < b" not in page
    assert re.search(r'class="badge failed">did not hold<', page)
    assert re.search(r'class="badge open">not measured<', page)
    told = " ".join(re.sub(r"<[^>]+>", "", page).split())
    assert "3 claims did not hold for them; 1 claims held for them." in told, "identity and exploration are not counted"
    assert f"{FACT['name']} is gpt2-small, known by its shape." in told
    assert "In other models, 4 of 4 claims held in every one." in told and "holds about 0.6 by chance" in told
    assert "The architecture makes it true" in page
    assert "Why this bound: Our tolerance; &lt;reason&gt;." in page
    assert "\u22120.250 [\u22120.500, 0.125]" in page, "true minus signs"
    assert "0.125" in page and "0.200 to 0.600" in page, "the null, and how far the value lies beyond it"
    assert "\u22120.000" not in page, "a rounded zero has no sign"


def test_models_of_other_runs_stand_in_the_table_of_claims(page: str) -> None:
    table = page[page.index("<table>") : page.index("</table>")]
    assert "Of big &lt;m&gt;: results that are kept with the code." in table
    cells = (row.split('<td class="number">')[2].split("</td>")[0] for row in table.split("<tr")[2:])
    assert [" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in cells][:3] == ["", "0.50 held", ""]


def test_a_contradiction_is_told_with_both_numbers(page: str) -> None:
    told = " ".join(re.sub(r"<[^>]+>", "", page).split())
    assert "Published data speak against this value, if this statistic is what is meant: it is 0.210 there" in told
    assert "there (their files), not 0.300." in told


def test_tables_of_one_name_are_one_table_in_their_section(page: str) -> None:
    section = page[page.index("Training of the shipped models</h3>") :]
    assert section.count('<details id="norm_check">') == 1 and ", 4 rows</summary>" in section
    cells = re.findall(r"<td>([^<]*)</td>", section[section.index("norm_check") : section.index("</details>")])
    assert cells == ["x &lt;b&gt;", "\u22120.123", "x &lt;b&gt;", "\u2013", "y", "\u22120.123", "y", "\u2013"]


def test_figure_takes_model_and_ablation_from_its_name(page: str) -> None:
    assert "Direct effect and change of the logit, tiny.v2, resample ablation" in page


def test_figure_of_all_kinds_of_ablation_takes_its_model_from_its_name(tmp_path: Path) -> None:
    (tmp_path / "norm_scale.tiny.v2.svg").write_text(SVG)
    assert figure(tmp_path / "norm_scale.tiny.v2.svg", CAPTIONS).title == "Scale of the final norm, tiny.v2"


def test_every_kind_of_figure_has_a_caption_that_names_tokens_and_uncertainty(tmp_path: Path) -> None:
    assert set(CAPTIONS) == {*KINDS, *TABLES, *ELSEWHERE}
    assert all(set(texts) == {"section", "title", "caption"} for texts in CAPTIONS.values())
    for kind in KINDS:
        assert re.search(r"tokens", CAPTIONS[kind]["caption"]), kind
        assert re.search(r"interval|uncertainty", CAPTIONS[kind]["caption"]), kind
    drawn = {CAPTIONS[kind]["section"] for kind in KINDS}
    assert {CAPTIONS[name]["section"] for name in TABLES} <= drawn, "tables stand in sections of figures"
    (tmp_path / "unknown.svg").write_text(SVG)
    with pytest.raises(KeyError, match="no caption for figures named unknown"):
        figure(tmp_path / "unknown.svg", CAPTIONS)


def test_inlined_svg_has_ids_of_its_own_and_a_name() -> None:
    svg = inline_svg(SVG, "a.b", 'say "x"')
    assert 'id="a-b-c"' in svg and "url(#a-b-c)" in svg and 'href="#a-b-c"' in svg
    assert svg.startswith('<svg role="img" aria-label="say &quot;x&quot;" xmlns=') and svg.endswith("</svg>")


@pytest.mark.parametrize(
    "bad",
    [
        "<p>no picture</p>",
        "<svg><script>1</script></svg>",
        '<svg><image href="https://example.org/x.png"/></svg>',
        "<svg><style>@import 'x'</style></svg>",
    ],
)
def test_a_picture_that_loads_or_runs_something_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="x: "):
        inline_svg(bad, "x", "title")


def test_costs_are_added_up_by_rule(tmp_path: Path) -> None:
    head = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
    jobs = {
        "ablate.a.resample.0": ("10.5", "300", "20"),
        "fold.a": ("1", "NA", "-"),
        "ablate.a.resample.1": ("1.5", "400", "2"),
    }
    for name, (seconds, memory, cpu) in jobs.items():
        (tmp_path / f"{name}.tsv").write_text(f"{head}{seconds}\t0:00:01\t{memory}\t0\t0\t0\t0\t0\t0\t{cpu}\n")
    on_gpu = {"ablate.a.resample.1": {"device": "NVIDIA H100"}, "ablate.a.resample.0": {"device": "cpu"}}
    found = costs([tmp_path / f"{name}.tsv" for name in jobs], on_gpu)
    assert found == [Cost("ablate", 2, 12.0, 22.0, 1.5, 400.0), Cost("fold", 1, 1.0, 0.0, 0.0, 0.0)]
    assert total(found) == Cost("total", 3, 13.0, 22.0, 1.5, 400.0)
    assert duration(3725.4) == "1:02:05"


def test_nested_facts_become_dotted_keys() -> None:
    assert flatten({"a": {"b": [1, 2], "c": {"d": None}}, "e": True}) == {"a.b": "1, 2", "a.c.d": None, "e": True}


def test_models_table_has_no_missing_cells(page: str) -> None:
    table = page[page.index('id="models"') : page.index('id="claims"')]
    assert not re.search(r"<td[^>]*>\s*</td>", table)
