"""The page that leads from each claim to its statistic, its tables and their rules, a figure and the tests."""

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from selfrepair.claims.nulls import MIRROR, MIRRORS, NOTHING
from selfrepair.claims.published import AUTHORS_WORDS
from selfrepair.claims.statistics import HEAD_STATISTICS, NEURON_STATISTICS, STATISTICS
from selfrepair.claims.verdicts import Claim, rule_in_words

ANALYSIS = "analysis/<model>"
STATISTIC_TEST = "tests/unit/test_claims.py"
MADE = ["what", "rule", "code", "tests"]


@dataclass(frozen=True)
class Source:
    """Where a table or a figure comes from, and what tests it.

    Attributes:
        rule: rule that makes it.
        module: file of the library that the rule's program calls.
        test: file of tests.
    """

    rule: str
    module: str
    test: str


_HEADS = Source("bootstrap_statistics", "src/selfrepair/claims/bootstrap.py", "tests/unit/test_head_statistics.py")
_ITERATIVE = Source("summarise_iterative", "src/selfrepair/analysis/iterative.py", "tests/unit/test_iterative.py")
# Tables that statistics read, within a model's folder of the analysis.
TABLES = {
    HEAD_STATISTICS: _HEADS,
    NEURON_STATISTICS: Source(
        "neuron_statistics", "src/selfrepair/claims/bootstrap.py", "tests/unit/test_head_statistics.py"
    ),
    "iterative/moving": _ITERATIVE,
    "iterative/repression": _ITERATIVE,
}
# Tables that each statistic reads, and the figure that shows what it is about.
EVIDENCE = {
    "heads_repaired": ([HEAD_STATISTICS], "self_repair_by_depth"),
    "late_heads_repaired": ([HEAD_STATISTICS], "self_repair_by_depth"),
    "late_repair_of_loss": ([HEAD_STATISTICS], "repair_breakdown"),
    "early_repair": ([HEAD_STATISTICS], "self_repair_by_depth"),
    "late_peak_lead": ([HEAD_STATISTICS], "self_repair_by_depth"),
    "penultimate_minus_last": ([HEAD_STATISTICS], "self_repair_by_depth"),
    "late_self_repair_share": ([HEAD_STATISTICS], "repair_by_depth"),
    "late_norm_share": ([HEAD_STATISTICS], "repair_by_depth"),
    "late_attention_share": ([HEAD_STATISTICS], "repair_by_depth"),
    "late_mlp_share": ([HEAD_STATISTICS], "repair_by_depth"),
    "penultimate_norm_share": ([HEAD_STATISTICS], "repair_share"),
    "last_norm_share": ([HEAD_STATISTICS], "repair_share"),
    "clipped_norm_share": ([HEAD_STATISTICS], "repair_share"),
    "last_layer_responders": ([HEAD_STATISTICS], "responders"),
    "unfiltered_repair": ([HEAD_STATISTICS], "effect_scatter"),
    "logit_falls_less_than_direct_effect": ([HEAD_STATISTICS], "effect_scatter"),
    "last_mlp_share": ([HEAD_STATISTICS], "repair_share"),
    "heavy_tail": ([HEAD_STATISTICS], "effect_scatter"),
    "noisily_repaired": ([HEAD_STATISTICS], "noise"),
    "scale_falls": ([HEAD_STATISTICS], "norm_scale"),
    "overcorrected": ([HEAD_STATISTICS], "noise"),
    "mirror_of_overcorrection": ([HEAD_STATISTICS], "noise"),
    "overcorrection_beyond_mirror": ([HEAD_STATISTICS], "noise"),
    "first_neuron_anti_erases": ([NEURON_STATISTICS], "erasure_scatter"),
    "mirror_of_first_neuron": ([NEURON_STATISTICS], "erasure_scatter"),
    "erasure_beyond_mirror": ([NEURON_STATISTICS], "erasure_scatter"),
    "few_neurons_share": ([NEURON_STATISTICS], "neuron_histograms"),
    "most_frequent_neuron": ([NEURON_STATISTICS], "neuron_frequency"),
    "moving_correlation": (["iterative/moving"], "layer_moving"),
    "repression_ratio": (["iterative/repression"], "self_repression"),
    "repression_beyond_random": (["iterative/repression"], "self_repression"),
    "heads_repressed": (["iterative/repression"], "self_repression"),
}
_HEAD_FIGURES, _TOKEN_FIGURES = "tests/unit/test_figures.py", "tests/unit/test_token_figures.py"
_NEURON_FIGURES, _ITERATIVE_FIGURES = "tests/unit/test_neuron_figures.py", "tests/unit/test_figures_iterative.py"
# Of each figure, the module that draws it and its tests; the rule is `figure_<name>`.
FIGURES = {
    "self_repair_by_depth": ("self_repair_by_depth", _HEAD_FIGURES),
    "effect_scatter": ("effect_scatter", _HEAD_FIGURES),
    "repair_share": ("repair_split", _HEAD_FIGURES),
    "responders": ("responders", _HEAD_FIGURES),
    "repair_by_depth": ("repair_by_depth", _TOKEN_FIGURES),
    "repair_breakdown": ("repair_breakdown", _TOKEN_FIGURES),
    "norm_scale": ("norm_scale", _TOKEN_FIGURES),
    "noise": ("noise", _TOKEN_FIGURES),
    "erasure_scatter": ("erasure_scatter", _NEURON_FIGURES),
    "neuron_histograms": ("neuron_histograms", _NEURON_FIGURES),
    "neuron_frequency": ("neuron_frequency", _NEURON_FIGURES),
    "layer_moving": ("iterative", _ITERATIVE_FIGURES),
    "self_repression": ("iterative", _ITERATIVE_FIGURES),
}
INTRODUCTION = """\
# From each claim to its evidence

Written by `workflow/scripts/document_claims.py` from `config/claims.yaml` and
`src/selfrepair/report/claims_page.py`. A claim is decided by a statistic of one model's tables; the rule `check_claims`
judges all of them, and the verdicts are in
`report/claims.json`, `tables/claims.csv` and `report/report.html` of a run's results.

    snakemake --cores all results/demo/tables/claims.csv

A claim *held* for a model if its statistic meets the rule with its whole 95 % interval, and lies beyond its null with
the whole interval of the difference. The null is the statistic in the model's *twin*, whose weight tensors are shuffled
(64 rows of tokens by default). Erasure and overcorrection are compared with their *mirror* in the same model, which
chance would make as frequent, heavy tails with *exponential* importance. It *did not hold* if an interval lies wholly
on the other side; else it is *undecided*. The verdict on the paper is about the paper's models, which are recognised by
commit, weights or shape; that on all others says whether the finding generalises. A rule that asks for a published
value asks other models for its sign. Statistics are computed on the run and on each of its bootstrap replicates, which
gives their intervals. Definitions:
[`experiments.md`](experiments.md).
"""


def claims_page(claims: list[Claim]) -> str:
    """Text of docs/claims.md.

    Args:
        claims: of config/claims.yaml, in their order.
    """
    nulls = {name for claim in claims if claim.against == MIRROR for name in MIRRORS[str(claim.statistic)]}
    used = [name for name in STATISTICS if name in nulls or any(claim.statistic == name for claim in claims)]
    tables = [table for table in TABLES if any(table in EVIDENCE[name][0] for name in used)]
    figures = [figure for figure in FIGURES if any(EVIDENCE[name][1] == figure for name in used)]
    return "\n".join(
        [
            INTRODUCTION,
            "## Claims\n",
            AUTHORS_WORDS + "\n",
            _table(["claim", "in our words", "holds when", "null", "statistic", "figure"], map(_claim, claims)),
            "## Statistics\n",
            f"Each is a function, tested on tables worked out by hand: `pytest {STATISTIC_TEST} -k <statistic>`.\n",
            _table(["statistic", "what", "tables"], map(_statistic, used)),
            "## Tables\n",
            f"In `results/<run>/{ANALYSIS}/`; every column is in [`results/README.md`](../results/README.md).\n",
            _table(MADE, ([f"`{name}.parquet`", *_made(TABLES[name])] for name in tables)),
            "## Figures\n",
            "In `results/<run>/figures/`, as `<figure>[.<model>][.<ablation>]` in five formats.\n",
            _table(MADE, ([f"`{name}`", *_made(drawn(name))] for name in figures)),
        ]
    )


def write_claims_page(claims: Path = Path("config/claims.yaml"), output: Path = Path("docs/claims.md")) -> None:
    """Write docs/claims.md: each claim's statistic, tables, rules, figure and tests.

    Args:
        claims: what the paper claims.
        output: file to write.
    """
    output.write_text(claims_page([Claim(**entry) for entry in yaml.safe_load(claims.read_text())["claims"]]))


def drawn(figure: str) -> Source:
    """Where a figure comes from."""
    module, test = FIGURES[figure]
    return Source(f"figure_{figure}", f"src/selfrepair/figures/{module}.py", test)


def statistic_file(name: str) -> str:
    """File of the library that holds a statistic."""
    return f"src/{STATISTICS[name].__module__.replace('.', '/')}.py"


def _claim(claim: Claim) -> list[str]:
    if claim.statistic is None:
        return [f"`{claim.id}`", claim.wording, f"not judged: {claim.reason}", "", "", ""]
    rule = f"{rule_in_words(claim)} ({claim.unit})"
    if claim.combine == "mean":
        rule += ", mean over the models"
    if claim.head:
        rule += f", {claim.head} of the paper's models"
    if claim.identity:
        rule += "; made true by the architecture, not counted"
    if claim.exploratory:
        rule += "; exploratory, not counted"
    if claim.contradicted_by:
        rule += f"; published data contradict it: `{claim.contradicted_by}`"
    null = "" if claim.against == NOTHING else claim.against
    return [f"`{claim.id}`", claim.wording, rule, null, f"`{claim.statistic}`", f"`{EVIDENCE[claim.statistic][1]}`"]


def _statistic(name: str) -> list[str]:
    what = str(inspect.getdoc(STATISTICS[name])).split("\n\n")[0].replace("\n", " ")
    return [_link(name, statistic_file(name)), what, ", ".join(f"`{table}`" for table in EVIDENCE[name][0])]


def _made(source: Source) -> list[str]:
    return [f"`{source.rule}`", *(_link(path.rsplit("/", 1)[1], path) for path in (source.module, source.test))]


def _link(label: str, path: str) -> str:
    return f"[`{label}`](../{path})"


def _table(header: list[str], rows: Iterable[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
