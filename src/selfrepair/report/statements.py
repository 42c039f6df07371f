"""Sentences of the paper that the results decide, so that no sentence can contradict its number."""

from typing import Any

from selfrepair.claims.verdicts import FAILED, HELD, UNDECIDED, UNMEASURED
from selfrepair.report.latex import escape

NOT_MEASURED = "This was not measured in any model of the run."


def statements(listed: dict[str, dict[str, Any]], claims: list[dict[str, Any]]) -> dict[str, str]:
    """Choose the wording of each statement by the verdicts of a run; the TeX of each by its name.

    Args:
        listed: paper/statements.yaml.
        claims: of `claims.evaluate`.

    Raises:
        ValueError: a statement is about a claim that does not exist, or lacks the wording that the results call for.
    """
    by_id = {claim["id"]: claim for claim in claims}
    return {name: escape(_wording(name, statement, by_id)) for name, statement in listed.items()}


def _wording(name: str, statement: dict[str, Any], claims: dict[str, dict[str, Any]]) -> str:
    cited = statement["larger"] if "larger" in statement else [statement["claim"]]
    if unknown := [claim for claim in cited if claim not in claims]:
        raise ValueError(f"paper/statements.yaml: {name} is about {', '.join(unknown)}, which config/claims.yaml lacks")
    verdicts = [HELD if _larger(*pair) else UNDECIDED for pair in _pairs(*(claims[c]["models"] for c in cited))]
    if len(cited) == 1:
        verdicts = [m["verdict"] for m in claims[cited[0]]["models"] if m["verdict"] != UNMEASURED]
    if not verdicts:
        return NOT_MEASURED
    held, failed = verdicts.count(HELD), verdicts.count(FAILED)
    case = "all" if held == len(verdicts) else "some" if held else "none"
    if case not in statement:
        raise ValueError(
            f"paper/statements.yaml: {name} has no wording for `{case}`, which this run's results call for"
        )
    return statement[case].format(held=held, failed=failed, models=len(verdicts))


def _pairs(*models: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """A model's entries in two claims, for each model that both have an interval for."""
    if len(models) != 2:
        return []
    others = {entry["model"]: entry for entry in models[1]}
    pairs = [(entry, others[entry["model"]]) for entry in models[0] if entry["model"] in others]
    return [pair for pair in pairs if None not in (pair[0]["low"], pair[1]["high"])]


def _larger(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one["low"] > other["high"]
