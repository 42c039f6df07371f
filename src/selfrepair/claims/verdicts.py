"""The paper's claims judged by machine: statistic, rule, null and verdict for each claim of `config/claims.yaml`.

A claim *held* for a model if its statistic meets the rule with its whole 95 % interval and lies beyond the null, on the
side that the claim is on, with the whole interval of the difference. It *did not hold* if the interval is wholly
outside the rule, or wholly on the wrong side of the null. Anything else is *undecided*. The verdict on the paper is
about the paper's own models; that on the others says whether the finding generalises.
"""

import math
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from selfrepair.claims.nulls import EXPONENTIAL, MIRROR, MIRRORS, NOTHING, TWIN, Null, against, exponential_tail
from selfrepair.claims.statistics import Measured, Tables, measure
from selfrepair.models.directory import parse_head

HELD, FAILED, UNDECIDED, UNMEASURED = "held", "did not hold", "undecided", "not measured"
PAPER, OTHER = "paper's model", "other model"
DECIMALS = 6
BY_CHANCE = 0.025  # of claims that a model like its null is expected to hold, at most: one end of a 95 % interval


@dataclass(frozen=True)
class Claim:
    """An entry of `config/claims.yaml`; its schema says what each field means."""

    id: str
    source: str
    wording: str
    about: list[str]
    statistic: str | None
    paper_value: float | None
    paper_source: str | None = None
    paper_values: dict[str, float] = field(default_factory=dict)
    parallel: bool | None = None
    identity: bool = False
    unit: str | None = None
    combine: str = "each"
    rule: dict[str, Any] = field(default_factory=dict)
    against: str = TWIN
    bound_reason: str | None = None
    contradicted_by: str | None = None
    exploratory: bool = False
    head: str | None = None
    reason: str | None = None

    @property
    def counted(self) -> bool:
        """Whether it is a claim of the paper that a statistic decides, and that could fail."""
        return self.statistic is not None and not self.identity and not self.exploratory

    def published(self, model: str | None) -> float | None:
        """Value published for one of the paper's models; None for the mean over them."""
        return self.paper_value if model is None else self.paper_values.get(model)


@dataclass(frozen=True)
class Model:
    """A model of the run.

    Attributes:
        tables: its summaries.
        twin: those of its twin; None where it was not measured.
        paper_name: what the paper calls it; None for a model that is not the paper's.
    """

    tables: Tables
    parallel: bool
    twin: Tables | None = None
    paper_name: str | None = None


def accepted(claim: Claim, published: float | None, other: bool = False) -> tuple[float, float] | None:
    """The smallest and the largest value with which a claim holds; None where there is nothing to compare with.

    Args:
        published: value published for the model, or for the mean over models.
        other: whether the model is not the paper's: of a rule that asks for a published value the sign remains.
    """
    (kind, bound), *_ = claim.rule.items()
    if kind == "near_paper":
        if other:
            published, bound = claim.paper_value, math.inf
        if published is None:
            return None
        low, high = published - bound, published + bound
        return (max(low, 0.0), high) if published > 0 else (low, min(high, 0.0)) if published < 0 else (low, high)
    return {"above": (bound, math.inf), "below": (-math.inf, bound), "between": bound}[kind]


def holds(claim: Claim, value: float, bounds: tuple[float, float]) -> bool:
    """Tell whether a value meets the rule; one that is not finite does not, and `above` and `below` are strict."""
    low, high = bounds
    if not math.isfinite(value):
        return False
    return low < value < high if {"above", "below"} & set(claim.rule) else low <= value <= high


def rule_in_words(claim: Claim) -> str:
    """Say which values are as the claim says."""
    (kind, bound), *_ = claim.rule.items()
    if kind == "between":
        return f"between {bound[0]} and {bound[1]}"
    if kind == "near_paper":
        return f"within {bound} of the published; others: its sign"
    return f"{kind} {Decimal(str(bound)):f}"


VERDICT = {
    "id": "name of the claim",
    "source": "where the paper says so, and how far that is known",
    "wording": "the claim in our words",
    "about": "the paper's models that it is about",
    "statistic": "function of selfrepair.claims.statistics that decides it; null where a run's summaries cannot",
    "unit": "unit of the values",
    "combine": "each: every model is judged; mean: the mean over the claim's models is",
    "identity": "true for what the architecture makes true; not counted as a claim",
    "exploratory": "true for what is not confirmed to be in the paper; not counted as a claim",
    "head": "head of the paper's models that it is about; null for none",
    "against": "its null: the model's twin, its mirror, an exponential distribution, or nothing",
    "paper_value": "published value or mean of published values; null where none is published",
    "paper_source": "where it comes from",
    "bound_reason": "why the rule's bound, our tolerance, is where it is",
    "rule": "which values are as the claim says, in words",
    "models": "values and verdicts of single models, see below",
    "verdict": f"on the paper's models: {HELD}, {FAILED}, {UNDECIDED} or {UNMEASURED}",
    "reason": "for how many of its models it held, or why it was not measured",
    "measured": "value, low and high of what was judged, where that is one number; else null",
    "others": f"of the other models: the names of those with verdict {HELD}, {FAILED} and {UNDECIDED}, and `models`",
    "contradiction": "paper_value and paper_source of published data that contradict the paper's words; else null",
}
MODEL_VERDICT = {
    "model": "name of the model",
    "role": f"{PAPER} or {OTHER}",
    "paper_value": "value published for this model; null where none is",
    "value": "the statistic; null where it is not finite",
    "low": "lower end of its 95 % interval; null where it has none",
    "high": "upper end of it",
    "null": "the statistic where nothing was learned; null where it was not measured or the claim has none",
    "null_low": "lower end of its 95 % interval",
    "null_high": "upper end of it",
    "beyond_low": "lower end of the 95 % interval of value less null",
    "beyond_high": "upper end of it",
    "holds": "whether the value meets the rule; null where nothing is published to compare with",
    "interval_agrees": "whether the whole interval gives the same answer; null where there is none",
    "verdict": f"{HELD}, {FAILED}, {UNDECIDED} or {UNMEASURED}",
}


def evaluate(claims: list[Claim], run: dict[str, Model]) -> list[dict[str, Any]]:
    """Judge every claim.

    Args:
        run: models of the run, by name.

    Returns:
        per claim the keys of `VERDICT`, and in `models` per model those of `MODEL_VERDICT`.
    """
    by_id = {claim.id: claim for claim in claims}
    judged = [_judge(claim, run) | {"contradiction": _contradiction(claim, by_id)} for claim in claims]
    return [{key: entry[key] for key in VERDICT} for entry in judged]


def expected_by_chance(claims: list[Claim]) -> float:
    """How many of the counted claims a model like its null would hold, at most, on average."""
    return BY_CHANCE * sum(claim.counted for claim in claims)


def _contradiction(claim: Claim, by_id: dict[str, Claim]) -> dict[str, Any] | None:
    if claim.contradicted_by is None:
        return None
    data = by_id[claim.contradicted_by]
    return {"paper_value": data.paper_value, "paper_source": data.paper_source}


def _judge(claim: Claim, run: dict[str, Model]) -> dict[str, Any]:
    copied = ("id", "source", "wording", "about", "statistic", "unit", "combine", "identity", "exploratory", "head")
    entry = {name: getattr(claim, name) for name in (*copied, "against", "paper_value", "paper_source", "bound_reason")}
    if claim.statistic is None:
        entry |= {"rule": None, "against": NOTHING, "models": [], "verdict": UNMEASURED, "reason": claim.reason}
        return entry | {"measured": None, "others": _others([])}
    fitting = {name: model for name, model in run.items() if claim.parallel in (None, model.parallel)}
    measured = {name: _measure(claim, model) for name, model in fitting.items()}
    models = [
        {"model": name, "role": PAPER if fitting[name].paper_name in claim.about else OTHER}
        | {"paper_value": claim.published(fitting[name].paper_name or "")}
        | _verdict(claim, *measured[name], fitting[name].paper_name)
        for name in fitting
    ]
    own = [model for model in models if model["role"] == PAPER]
    if claim.combine == "mean":
        by_paper = {fitting[model["model"]].paper_name or "": measured[model["model"]] for model in own}
        decided = _of_mean(claim, by_paper)
    else:
        decided = _of_each(claim, own)
    others = _others([model for model in models if model["role"] == OTHER])
    return entry | {"rule": rule_in_words(claim), "models": models, "others": others} | decided


def _measure(claim: Claim, model: Model) -> tuple[Measured, Null | None]:
    """A model's statistic and its null; a claim about a head is judged by it in the paper's models alone."""
    assert claim.statistic is not None
    head = parse_head(claim.head) if claim.head and model.paper_name in claim.about else None
    measured = measure(claim.statistic, model.tables, head)
    if claim.against == EXPONENTIAL:
        return measured, against(measured, exponential_tail(model.tables.n_heads))
    if claim.against == MIRROR:
        return measured, Null(*(measure(name, model.tables, head) for name in MIRRORS[claim.statistic]))
    if claim.against == TWIN and model.twin is not None:
        return measured, against(measured, measure(claim.statistic, model.twin))
    return measured, None


def _verdict(claim: Claim, measured: Measured, null: Null | None, paper_name: str | None) -> dict[str, Any]:
    values = {"value": measured.value, "low": measured.low, "high": measured.high}
    ends = (null.null.value, null.null.low, null.null.high, null.beyond.low, null.beyond.high) if null else (None,) * 5
    values |= dict(zip(("null", "null_low", "null_high", "beyond_low", "beyond_high"), ends, strict=True))
    entry: dict[str, Any] = {name: _rounded(value) for name, value in values.items()}
    bounds = accepted(claim, claim.published(paper_name or ""), other=paper_name not in claim.about)
    if entry["value"] is None or bounds is None:
        return entry | {"holds": None, "interval_agrees": None, "verdict": UNMEASURED}
    return entry | _decide(claim, measured, null, bounds)


def _decide(claim: Claim, measured: Measured, null: Null | None, bounds: tuple[float, float]) -> dict[str, Any]:
    """Whether the rule is met, whether the whole interval says the same, and the verdict."""
    good, side = holds(claim, measured.value, bounds), 1 if claim.against == NOTHING else _side(claim, bounds, null)
    if measured.low is None or measured.high is None:
        return {"holds": good, "interval_agrees": None, "verdict": UNDECIDED}
    low, high = measured.low, measured.high
    inside = all(holds(claim, end, bounds) for end in (low, high))
    outside = not any(holds(claim, value, bounds) for value in (low, high)) and (high <= bounds[0] or low >= bounds[1])
    verdict = FAILED if outside or side == -1 else HELD if good and inside and side == 1 else UNDECIDED
    return {"holds": good, "interval_agrees": inside or outside, "verdict": verdict}


def _side(claim: Claim, bounds: tuple[float, float], null: Null | None) -> int:
    """1 if the value lies beyond the null as the claim says, -1 if on the other side, 0 if that is not decided.

    The claim's side of the null is where its accepted values are. With a null among them it is where most of them are,
    but above for a rule `between`, which says of something that it is there and where it ends.
    """
    if null is None or null.beyond.low is None or not math.isfinite(null.null.value):
        return 0
    assert null.beyond.high is not None
    low, high = bounds
    above = null.null.value <= high if "between" in claim.rule else high - null.null.value >= null.null.value - low
    upwards = 1 if above else -1
    return upwards if null.beyond.low > 0 else -upwards if null.beyond.high < 0 else 0


def _of_mean(claim: Claim, of_paper: dict[str, tuple[Measured, Null | None]]) -> dict[str, Any]:
    """Judge the mean over the claim's models, all of which it needs."""
    if missing := [name for name in claim.about if name not in of_paper]:
        reason = f"the mean needs all heads of all {len(claim.about)} models; not in the run: {', '.join(missing)}"
        return {"verdict": UNMEASURED, "reason": reason, "measured": None}
    measured, nulls = zip(*(of_paper[name] for name in claim.about), strict=True)
    null = None if None in nulls else Null(_average([n.null for n in nulls]), _average([n.beyond for n in nulls]))
    mean, bounds = _average(list(measured)), accepted(claim, claim.paper_value)
    assert bounds is not None
    verdict = _decide(claim, mean, null, bounds)["verdict"]
    reason = f"the mean over its {len(claim.about)} models is judged"
    return {"verdict": verdict, "reason": reason, "measured": {n: _rounded(value) for n, value in vars(mean).items()}}


def _of_each(claim: Claim, own: list[dict[str, Any]]) -> dict[str, Any]:
    """Judge by those of the claim's models that were measured; every one must hold."""
    judged = [model for model in own if model["verdict"] != UNMEASURED]
    if not judged:
        reason = "none of the claim's models are in the run with all their heads"
        if any(model["value"] is None for model in own):
            reason = "the run did not measure what the statistic needs"
        elif own:
            reason = "nothing is published for those of the claim's models that are in the run"
        return {"verdict": UNMEASURED, "reason": reason, "measured": None}
    verdicts = [model["verdict"] for model in judged]
    measured = {end: judged[0][end] for end in ("value", "low", "high")} if len(judged) == 1 else None
    reason = f"held for {verdicts.count(HELD)} of {len(judged)} models measured, of {len(claim.about)} that it is about"
    verdict = FAILED if FAILED in verdicts else UNDECIDED if UNDECIDED in verdicts else HELD
    return {"verdict": verdict, "reason": reason, "measured": measured}


def _others(models: list[dict[str, Any]]) -> dict[str, Any]:
    """Whether the finding generalises: names of other models by verdict, and how many were measured."""
    by_verdict = {word: [m["model"] for m in models if m["verdict"] == word] for word in (HELD, FAILED, UNDECIDED)}
    return by_verdict | {"models": sum(map(len, by_verdict.values()))}


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, DECIMALS)


def _average(values: list[Measured]) -> Measured:
    """Mean over models. Its interval averages the ends: as wide as if all erred together, so never too narrow."""

    def mean(name: str) -> float | None:
        ends = [getattr(value, name) for value in values]
        return None if None in ends else sum(ends) / len(ends)

    return Measured(sum(value.value for value in values) / len(values), mean("low"), mean("high"))
