"""The paper's claims judged by machine: a statistic, a rule, and a verdict for each claim of `config/claims.yaml`.

A statistic is a function of one model's summary tables. The verdict on a claim is about the paper's own models only;
other models get the same statistic and the verdict that they would have. Intervals of a statistic that averages
layers or heads are made of the averaged ends of their 95 % intervals, so they are too wide rather than too narrow;
weights (direct effects) are taken as known.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import polars as pl

from selfrepair.summaries import wide

HELD, FAILED, UNMEASURED = "held", "did not hold", "not measured in this run"
PAPER, OTHER = "paper's model", "other model"
DECIMALS = 6


@dataclass(frozen=True)
class Measured:
    """A statistic with the ends of its 95 % interval, where it has one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Tables:
    """Summaries of one model, one row per head or layer, layers ascending (`summaries.wide`)."""

    heads: pl.DataFrame
    layers: pl.DataFrame
    unfiltered: pl.DataFrame

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return self.layers["n_layers"][0]

    @property
    def late(self) -> pl.DataFrame:
        """Layers of the second half."""
        return self.layers.filter(pl.col("layer") * 2 >= self.n_layers)


def tables(heads: pl.DataFrame, layers: pl.DataFrame) -> Tables:
    """Bring `store.STATISTICS` of one model into the form that statistics take."""
    return Tables(wide(heads, "top"), wide(layers, "top"), wide(layers, "all"))


def complete(models: pl.DataFrame, measured: list[Tables]) -> dict[str, Tables]:
    """Return the tables of models of which every head was measured, by name; claims are about whole models.

    Args:
        models: `overview.MODELS`.
    """
    heads = {name: layers * heads for name, layers, heads in models.select("model", "n_layers", "n_heads").rows()}
    return {t.heads["model"][0]: t for t in measured if t.heads.height == heads[t.heads["model"][0]]}


def late_heads_repaired(t: Tables) -> Measured:
    """Fraction of heads in the second half of the layers whose mean self-repair on top tokens is positive."""
    late = t.heads.filter(pl.col("layer") * 2 >= t.n_layers)
    return Measured((late["mean_self_repair"] > 0).mean())


def late_repair_of_loss(t: Tables) -> Measured:
    """Self-repair divided by the direct effect lost, second half of the layers; 1 is perfect repair."""
    loss = (t.late["mean_direct_effect"] - t.late["mean_ablated_direct_effect"]).sum()
    return Measured(*(t.late[f"mean_self_repair{end}"].sum() / loss for end in ("", "_low", "_high")))


def early_repair(t: Tables) -> Measured:
    """Mean self-repair of the first quarter of the layers, in logits."""
    return _mean(t.layers.filter(pl.col("layer") * 4 < t.n_layers), "mean_self_repair")


def peak_depth(t: Tables) -> Measured:
    """Depth (layer / number of layers) of the layer with the largest mean self-repair."""
    return Measured(_peak(t)["layer"] / t.n_layers)


def last_layer_drop(t: Tables) -> Measured:
    """Mean self-repair of the best layer minus that of the last, in logits."""
    peak, last = _peak(t), t.layers.row(-1, named=True)
    name = "mean_self_repair"
    if peak["layer"] == last["layer"]:
        return Measured(0.0)
    return Measured(
        peak[name] - last[name], peak[f"{name}_low"] - last[f"{name}_high"], peak[f"{name}_high"] - last[f"{name}_low"]
    )


def late_self_repair_share(t: Tables) -> Measured:
    """Sum of self-repair divided by the sum of direct effects, second half of the layers."""
    return _late_share(t, "self_repair")


def late_norm_share(t: Tables) -> Measured:
    """The same of the final norm's part."""
    return _late_share(t, "repair_norm")


def late_attention_share(t: Tables) -> Measured:
    """The same of the part of later attention."""
    return _late_share(t, "repair_attention")


def late_mlp_share(t: Tables) -> Measured:
    """The same of the part of MLPs."""
    return _late_share(t, "repair_mlp")


def penultimate_norm_share(t: Tables) -> Measured:
    """Norm's part divided by direct effect (ratio of token means) for each head of the last layer but one, averaged."""
    return _mean(t.heads.filter(pl.col("layer") == t.n_layers - 2), "share_repair_norm")


def last_norm_share(t: Tables) -> Measured:
    """The same for the last layer."""
    return _mean(t.heads.filter(pl.col("layer") == t.n_layers - 1), "share_repair_norm")


def clipped_norm_share(t: Tables) -> Measured:
    """Norm's part divided by direct effect, clipped to [0, 1] on each token; mean over tokens, then over all heads."""
    return _mean(t.layers, "clipped_share_repair_norm")


def last_layer_responders(t: Tables) -> Measured:
    """Largest size of what later attention and MLPs do about a head of the last layer, in logits."""
    last = t.heads.filter(pl.col("layer") == t.n_layers - 1)
    return Measured((last["mean_repair_attention"].abs() + last["mean_repair_mlp"].abs()).max())


def unfiltered_repair(t: Tables) -> Measured:
    """Mean self-repair over all heads and all tokens, in logits."""
    return _mean(t.unfiltered, "mean_self_repair")


def loss_exceeds_drop(t: Tables) -> Measured:
    """Fraction of heads whose mean direct effect changes by more than the mean logit does, top tokens."""
    change = (t.heads["mean_ablated_direct_effect"] - t.heads["mean_direct_effect"]).abs()
    return Measured((change > t.heads["mean_delta_logit"].abs()).mean())


STATISTICS: dict[str, Callable[[Tables], Measured]] = {
    function.__name__: function
    for function in (
        late_heads_repaired,
        late_repair_of_loss,
        early_repair,
        peak_depth,
        last_layer_drop,
        late_self_repair_share,
        late_norm_share,
        late_attention_share,
        late_mlp_share,
        penultimate_norm_share,
        last_norm_share,
        clipped_norm_share,
        last_layer_responders,
        unfiltered_repair,
        loss_exceeds_drop,
    )
}


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
    families: list[str] | None = None
    unit: str | None = None
    combine: str = "each"
    rule: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None


def holds(claim: Claim, value: float, model: str | None = None) -> bool:
    """Tell whether a value of the statistic is as the claim's rule asks; never for a value that is not finite."""
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
            published = [claim.paper_values[model]] if model in claim.paper_values else _published(claim)
            return min(published) - bound <= value <= max(published) + bound


def rule_in_words(claim: Claim) -> str:
    """Say when the claim holds."""
    (kind, bound), *_ = claim.rule.items()
    if kind == "between":
        return f"between {bound[0]} and {bound[1]}"
    if kind == "near_paper":
        return f"within {bound} of the published"
    return f"{kind} {Decimal(str(bound)):f}"


def evaluate(claims: list[Claim], run: dict[str, Tables], families: dict[str, str]) -> list[dict[str, Any]]:
    """Judge every claim.

    Args:
        run: tables by model.
        families: Hugging Face `model_type` by model; a claim may be about some families only.

    Returns:
        per claim its entry, the rule in words, `verdict`, `measured` (what was compared; null where none of the
        claim's models are in the run) and `models`: each model's value, interval, role, `holds`, verdict, and whether
        the whole interval is on the same side (`interval_agrees`).
    """
    return [_judge(claim, run, families) for claim in claims]


def _judge(claim: Claim, run: dict[str, Tables], families: dict[str, str]) -> dict[str, Any]:
    entry = {
        name: getattr(claim, name) for name in ("id", "source", "wording", "about", "statistic", "unit", "combine")
    }
    entry |= {"paper_value": claim.paper_value, "paper_source": claim.paper_source}
    if claim.statistic is None:
        return entry | {"rule": None, "verdict": UNMEASURED, "reason": claim.reason, "measured": None, "models": []}
    fitting = [name for name in run if name in claim.about or not claim.families or families[name] in claim.families]
    found = {name: STATISTICS[claim.statistic](run[name]) for name in fitting}
    models = [_of_model(claim, name, measured) for name, measured in found.items()]
    own = [model for model in models if model["role"] == PAPER]
    entry |= {"rule": rule_in_words(claim), "models": models}
    if not own:
        reason = "none of the claim's models are in the run with all their heads"
        return entry | {"verdict": UNMEASURED, "reason": reason, "measured": None}
    if claim.combine == "mean":
        mean = _average([found[model["model"]] for model in own])
        verdict = HELD if holds(claim, mean.value) else FAILED
        measured = _rounded(mean)
    else:
        verdict = HELD if all(model["holds"] for model in own) else FAILED
        measured = _rounded(found[own[0]["model"]]) if len(own) == 1 else None
    reason = f"{len(own)} of its {len(claim.about)} models are in the run"
    return entry | {"verdict": verdict, "reason": reason, "measured": measured}


def _of_model(claim: Claim, model: str, measured: Measured) -> dict[str, Any]:
    good, ends = holds(claim, measured.value, model), (measured.low, measured.high)
    role = PAPER if model in claim.about else OTHER
    words = {PAPER: (FAILED, HELD), OTHER: ("would not hold", "would hold")}[role]
    agrees = None if None in ends else all(holds(claim, end, model) == good for end in ends)
    labels = {"model": model, "role": role, "paper_value": claim.paper_values.get(model)}
    return labels | _rounded(measured) | {"holds": good, "verdict": words[good], "interval_agrees": agrees}


def _rounded(measured: Measured) -> dict[str, float | None]:
    values = {"value": measured.value, "low": measured.low, "high": measured.high}
    return {
        name: None if value is None or not math.isfinite(value) else round(value, DECIMALS)
        for name, value in values.items()
    }


def _published(claim: Claim) -> list[float]:
    return list(claim.paper_values.values()) or [claim.paper_value]


def _peak(t: Tables) -> dict[str, Any]:
    return t.layers.row(t.layers["mean_self_repair"].arg_max(), named=True)


def _mean(rows: pl.DataFrame, name: str) -> Measured:
    return Measured(*(rows[f"{name}{end}"].mean() for end in ("", "_low", "_high")))


def _late_share(t: Tables, part: str) -> Measured:
    effect = t.late["mean_direct_effect"]
    return Measured(*(t.late[f"mean_{part}{end}"].sum() / effect.sum() for end in ("", "_low", "_high")))


def _average(values: list[Measured]) -> Measured:
    def mean(name: str) -> float | None:
        ends = [getattr(value, name) for value in values]
        return None if None in ends else sum(ends) / len(ends)

    return Measured(mean("value"), mean("low"), mean("high"))
