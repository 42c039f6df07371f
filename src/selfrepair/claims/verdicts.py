"""The paper's claims judged by machine: a statistic, a rule, and a verdict for each claim of `config/claims.yaml`.

A statistic is a function of one model's summary tables. The verdict on a claim is about the paper's own models only;
other models get the same statistic and the verdict that they would have, unless the rule compares with a published
value.
"""

import math
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from selfrepair.claims.statistics import Measured, Tables, measure
from selfrepair.models.directory import parse_head

HELD, FAILED, UNMEASURED = "held", "did not hold", "not measured in this run"
NOT_COMPARABLE = "not comparable"
PAPER, OTHER = "paper's model", "other model"
DECIMALS = 6
ALIASES = {"gpt2": "gpt2-small"}  # what the paper calls a model, where users often call it something else


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
    bound_reason: str | None = None
    contradicted_by: str | None = None
    exploratory: bool = False
    head: str | None = None
    reason: str | None = None


def published_name(model: str) -> str:
    """What the paper and its result files call a model."""
    return ALIASES.get(model, model)


def holds(claim: Claim, value: float, model: str | None = None) -> bool:
    """Tell whether a value of the statistic is as the claim's rule asks; never for a value that is not finite.

    Args:
        model: whose value it is; none for the mean over the claim's models.
    """
    (kind, bound), *_ = claim.rule.items()
    match kind:
        case _ if not math.isfinite(value):
            return False
        case "above":
            return value > bound
        case "below":
            return value < bound
        case "between":
            return bound[0] <= value <= bound[1]
        case _:
            published = claim.paper_values.get(published_name(model)) if model else claim.paper_value
            return published is not None and abs(value - published) <= bound and value * published >= 0


def comparable(claim: Claim, model: str) -> bool:
    """Tell whether the rule can be applied to a single model: a published value must be that model's own."""
    return "near_paper" not in claim.rule or published_name(model) in claim.paper_values


def rule_in_words(claim: Claim) -> str:
    """Say when the claim holds."""
    (kind, bound), *_ = claim.rule.items()
    if kind == "between":
        return f"between {bound[0]} and {bound[1]}"
    if kind == "near_paper":
        return f"within {bound} of the published, with its sign"
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
    "head": "head of the paper's models that it is about; others are judged by all heads looked at; null for none",
    "paper_value": "published value or mean of published values; null where none is published",
    "paper_source": "where it comes from",
    "bound_reason": "why the rule's bound, our tolerance, is where it is",
    "rule": "when the claim holds, in words",
    "models": "values and verdicts of single models, see below",
    "verdict": f"{HELD}, {FAILED} or {UNMEASURED}",
    "reason": "for how many of its models it held, or why it was not measured",
    "measured": "value, low and high of what was judged, where that is one number; else null",
    "contradiction": "paper_value and paper_source of published data that contradict the paper's words; else null",
}
MODEL_VERDICT = {
    "model": "name of the model",
    "role": f"{PAPER} or {OTHER}",
    "paper_value": "value published for this model; null where none is",
    "value": "the statistic; null where it is not finite",
    "low": "lower end of its 95 % interval; null where it has none",
    "high": "upper end of it",
    "holds": "whether the rule is met; null where nothing is published to compare with",
    "verdict": f"the same in words; {NOT_COMPARABLE} where nothing is published to compare with",
    "interval_agrees": "whether both ends of the interval give the same answer; null where one is missing",
}


def evaluate(claims: list[Claim], run: dict[str, Tables], parallel: dict[str, bool]) -> list[dict[str, Any]]:
    """Judge every claim.

    Args:
        run: tables by model.
        parallel: by model, whether attention and MLP of a block run in parallel; a claim may be about such models only.

    Returns:
        per claim the keys of `VERDICT`, and in `models` per model those of `MODEL_VERDICT`.
    """
    by_id = {claim.id: claim for claim in claims}
    return [_judge(claim, run, parallel) | {"contradiction": _contradiction(claim, by_id)} for claim in claims]


def _contradiction(claim: Claim, by_id: dict[str, Claim]) -> dict[str, Any] | None:
    if claim.contradicted_by is None:
        return None
    data = by_id[claim.contradicted_by]
    return {"paper_value": data.paper_value, "paper_source": data.paper_source}


def _judge(claim: Claim, run: dict[str, Tables], parallel: dict[str, bool]) -> dict[str, Any]:
    copied = ("id", "source", "wording", "about", "statistic", "unit", "combine", "identity", "exploratory", "head")
    entry = {name: getattr(claim, name) for name in (*copied, "paper_value", "paper_source", "bound_reason")}
    if claim.statistic is None:
        return entry | {"rule": None, "models": [], "verdict": UNMEASURED, "reason": claim.reason, "measured": None}
    fitting = [name for name in run if claim.parallel in (None, parallel[name])]
    measured_of = {name: measure(claim.statistic, _part(claim, name, run[name])) for name in fitting}
    models = [_of_model(claim, name, measured) for name, measured in measured_of.items()]
    entry |= {"rule": rule_in_words(claim), "models": models}
    return entry | (_of_mean(claim, measured_of) if claim.combine == "mean" else _of_each(claim, models))


def _part(claim: Claim, model: str, tables: Tables) -> Tables:
    """The tables that decide a claim for a model: of the head that it is about, where it is about one."""
    if claim.head is None or published_name(model) not in claim.about:
        return tables
    return tables.of_head(*parse_head(claim.head))


def _of_mean(claim: Claim, measured_of: dict[str, Measured]) -> dict[str, Any]:
    """Judge the mean over the claim's models, all of which it needs."""
    by_name = {published_name(name): measured for name, measured in measured_of.items()}
    missing = [name for name in claim.about if name not in by_name]
    if missing:
        reason = f"the mean needs all heads of all {len(claim.about)} models; not in the run: {', '.join(missing)}"
        return {"verdict": UNMEASURED, "reason": reason, "measured": None}
    mean = _average([by_name[name] for name in claim.about])
    verdict = HELD if holds(claim, mean.value) else FAILED
    reason = f"the mean over its {len(claim.about)} models is judged"
    return {"verdict": verdict, "reason": reason, "measured": _rounded(mean)}


def _of_each(claim: Claim, models: list[dict[str, Any]]) -> dict[str, Any]:
    """Judge by those of the claim's models that are in the run and comparable; every one must hold."""
    own = [model for model in models if model["role"] == PAPER]
    judged = [model for model in own if model["holds"] is not None and model["value"] is not None]
    if not judged:
        reason = "none of the claim's models are in the run with all their heads"
        if any(model["value"] is None for model in own):
            reason = "the run did not measure what the statistic needs"
        elif own:
            reason = "nothing is published for those of the claim's models that are in the run"
        return {"verdict": UNMEASURED, "reason": reason, "measured": None}
    good = sum(model["holds"] for model in judged)
    measured = {end: judged[0][end] for end in ("value", "low", "high")} if len(judged) == 1 else None
    reason = f"held for {good} of {len(judged)} models measured, of {len(claim.about)} that the claim is about"
    if len(own) > len(judged):
        reason += f"; for {len(own) - len(judged)} more nothing was measured or is published"
    return {"verdict": HELD if good == len(judged) else FAILED, "reason": reason, "measured": measured}


def _of_model(claim: Claim, model: str, measured: Measured) -> dict[str, Any]:
    name = published_name(model)
    role = PAPER if name in claim.about else OTHER
    entry = {"model": model, "role": role, "paper_value": claim.paper_values.get(name)} | _rounded(measured)
    if not comparable(claim, model):
        return entry | {"holds": None, "verdict": NOT_COMPARABLE, "interval_agrees": None}
    good, ends = holds(claim, measured.value, model), (measured.low, measured.high)
    words = {PAPER: (FAILED, HELD), OTHER: ("would not hold", "would hold")}[role]
    agrees = None if None in ends else all(holds(claim, end, model) == good for end in ends)
    return entry | {"holds": good, "verdict": words[good], "interval_agrees": agrees}


def _rounded(measured: Measured) -> dict[str, float | None]:
    values = {"value": measured.value, "low": measured.low, "high": measured.high}
    return {
        name: None if value is None or not math.isfinite(value) else round(value, DECIMALS)
        for name, value in values.items()
    }


def _average(values: list[Measured]) -> Measured:
    def mean(name: str) -> float | None:
        ends = [getattr(value, name) for value in values]
        return None if None in ends else sum(ends) / len(ends)

    return Measured(mean("value"), mean("low"), mean("high"))
