"""Numbers of the paper's prose as TeX macros, so that none is typed by hand.

A macro's name holds letters only. Prose does not name models: `...ByModel` macros list each model of the run with its
value, `...Range` macros give the smallest and the largest value. What is said of layers, heads or claims is said of
models of which every head was measured.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from selfrepair.analysis.bootstrap import LEVEL
from selfrepair.analysis.overview import LARGE_EFFECT, read_models
from selfrepair.analysis.wide import read_wide
from selfrepair.claims.statistics import fully_measured, peak_layer
from selfrepair.claims.verdicts import BY_CHANCE, FAILED, HELD, PAPER, UNDECIDED, UNMEASURED
from selfrepair.core.files import write_text
from selfrepair.report.arms import family_macros
from selfrepair.report.claims_table import JUDGED, UPRIGHT, judged_models, read_claims, span
from selfrepair.report.findings import ABOVE, BELOW, FOUND
from selfrepair.report.latex import escape, integer, interval, number, scientific
from selfrepair.report.statements import statements

RANGES = {
    "LayerRange": "n_layers",
    "HeadRange": "n_heads",
    "ParameterRange": "parameters",
    "TokenRange": "tokens",
    "DocumentRange": "documents",
    "TopTokenRange": "top_tokens",
    "EffectiveRange": "effective_documents",
    "TopEffectiveRange": "top_effective_documents",
}
FACTS = {
    "RunName": "config.run",
    "Corpus": "config.tokens.corpus",
    "RowLength": "config.tokens.row_length",
    "Replicates": "config.analysis.bootstrap_replicates",
    "Seed": "config.seed",
    "Cores": "machine.cores",
    "Processor": "machine.processor",
}
NONE = "not measured"
DIGITS = str.maketrans({str(digit): "abcdefghij"[digit] for digit in range(10)})  # names of macros hold letters only
STUDY = "study-"  # begins the names of statements about other runs
DECIMALS = {"logits": 3, "ratio": 2, "fraction of heads": 2, "fraction of tokens": 2}


def macros(
    record: dict[str, Any],
    models: pl.DataFrame,
    heads: pl.DataFrame,
    layers: pl.DataFrame,
    claims: list[dict[str, Any]],
    costs: pl.DataFrame,
    listed: dict[str, dict[str, Any]],
    findings: pl.DataFrame,
    studies: list[dict[str, Any]],
    studied: list[dict[str, Any]] = [],  # noqa: B006
    family: dict[str, pl.DataFrame] = {},  # noqa: B006
) -> dict[str, str]:
    """Return the TeX of every macro by its name.

    Args:
        record: of the run; `FACTS` says which keys are read.
        models: `overview.MODELS`.
        heads: on top tokens, of all models (`summaries.wide`); those with heads left out are passed over.
        layers: the same of layers.
        claims: of `claims.evaluate`.
        costs: `cost_table.COSTS`.
        listed: paper/statements.yaml.
        findings: `findings.FOUND`.
        studies: config/studies.yaml.
        studied: claims of other runs; what is said of them begins with `Study`.
        family: tables of a controlled family by name (`arms.TABLES`).
    """
    of_studies = {name: listed[name] for name in listed if name.startswith(STUDY)}
    of_run = {name: listed[name] for name in listed if name not in of_studies}
    sentences = statements(of_run, claims) | (statements(of_studies, studied) if studied else {})
    said = {f"Says{macro_name(name)}": sentence for name, sentence in sentences.items()}
    beside = {f"Study{name}": value for name, value in _of_each_claim(studied).items()}
    beside["StudyModels"] = _listed(map(_code, judged_models(studied)))
    whole_models = pl.col("model").is_in(fully_measured(models, heads))
    return (
        _of_run(record)
        | _of_models(models)
        | _of_layers(layers.filter(whole_models))
        | _of_heads(heads.filter(whole_models))
        | _of_claims(claims)
        | _of_costs(costs)
        | _of_findings(findings, studies)
        | said
        | beside
        | (family_macros(family) if family else {})
        | {"FirstModel": models["model"][0], "FirstModelName": _code(models["model"][0])}
    )


def definitions(values: dict[str, str]) -> str:
    """Write macros as TeX definitions.

    Raises:
        ValueError: a name holds something else than letters.
    """
    bad = [name for name in values if not re.fullmatch("[A-Za-z]+", name)]
    if bad:
        raise ValueError(f"names of macros may hold letters only: {', '.join(bad)}")
    return "".join(f"\\newcommand{{\\{name}}}{{{tex}}}\n" for name, tex in values.items())


def macro_name(claim: str) -> str:
    """Turn a claim's id into the beginning of a macro's name: `early-breakage` is `EarlyBreakage`."""
    return "".join(word.capitalize() for word in claim.split("-"))


def _of_run(record: dict[str, Any]) -> dict[str, str]:
    fraction = _fact(record, "config.analysis.top_fraction")
    return {name: escape(str(_fact(record, key))) for name, key in FACTS.items()} | {
        "TopPercent": f"{100 * fraction:g}",
        "ConfidenceLevel": f"{100 * LEVEL:g}",
        "MachineMemory": integer(round(_fact(record, "machine.memory_mb") / 1000)),
    }


def _fact(record: dict[str, Any], key: str) -> Any:
    value: Any = record
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            raise KeyError(f"the run record has no {key}, which the paper states")
        value = value[part]
    return value


def _of_models(models: pl.DataFrame) -> dict[str, str]:
    losses = models.drop_nulls(["held_out_loss", "bigram_loss"]).to_dicts()
    by_model = [
        f"{number(row['held_out_loss'], 2)} against {number(row['bigram_loss'], 2)} ({_code(row['model'])})"
        for row in losses
    ]
    return {
        "ModelCount": integer(models.height),
        "ModelNames": _listed(_code(name) for name in models["model"]),
        "LossByModel": _listed(by_model) if by_model else "not known for the models of this run",
        "LoadErrorMax": scientific(models["load_error"].max()),
        "LargeEffect": number(LARGE_EFFECT, 0),
    } | {name: _range(models[column]) for name, column in RANGES.items()}


def _of_layers(layers: pl.DataFrame) -> dict[str, str]:
    peaks, firsts = [], []
    for table in layers.partition_by("model", maintain_order=True):
        peak, first = peak_layer(table), table.row(by_predicate=pl.col("layer") == 0, named=True)
        peaks.append(f"{_repair(peak)} in layer {integer(peak['layer'])} of {_code(peak['model'])}")
        firsts.append(f"{_repair(first)} ({_code(peak['model'])})")
    return {"PeakLayerByModel": _listed(peaks) or NONE, "FirstLayerByModel": _listed(firsts) or NONE}


def _of_heads(heads: pl.DataFrame) -> dict[str, str]:
    best = []
    for table in heads.partition_by("model", maintain_order=True):
        row = table.row(table["mean_self_repair"].arg_max(), named=True)
        head = f"L{row['layer']}H{row['head']} of {_code(row['model'])}"
        best.append(f"{head} ({number(row['mean_direct_effect'], 2)}, {_repair(row)})")
    return {"MostRepairedHeadByModel": _listed(best) or NONE}


def _of_claims(claims: list[dict[str, Any]]) -> dict[str, str]:
    values_of_claims = _of_each_claim(claims)
    claims = [claim for claim in claims if not claim["identity"] and not claim["exploratory"]]
    judged = [claim for claim in claims if claim["statistic"] is not None]
    verdicts = [claim["verdict"] for claim in judged]
    entries = [entry for claim in judged for entry in claim["models"]]
    counts = {
        "ClaimCount": len(claims),
        "ClaimsWithStatistic": len(judged),
        "ClaimsWithoutStatistic": len(claims) - len(judged),
        "ClaimsHeld": verdicts.count(HELD),
        "ClaimsNotHeld": verdicts.count(FAILED),
        "ClaimsUndecided": verdicts.count(UNDECIDED),
        "ClaimsNotMeasured": verdicts.count(UNMEASURED),
        "PaperModelsMeasured": len({entry["model"] for entry in entries if entry["role"] == PAPER}),
        "ModelsJudgedMost": JUDGED,
        "PaperModelCount": len({model for claim in claims for model in claim["about"]}),
    }
    others = [len(claim["others"][HELD]) for claim in judged if claim["others"]["models"]]
    counts |= {
        "OtherModelCount": len({entry["model"] for entry in entries if entry["role"] != PAPER}),
        "ClaimsHeldInAllOthers": sum(len(c["others"][HELD]) == c["others"]["models"] > 0 for c in judged),
        "ClaimsHeldInNoOther": others.count(0),
        "ClaimsJudgedInOthers": len(others),
    }
    values_of_claims |= {name: integer(value) for name, value in counts.items()}
    values_of_claims["ClaimsByChance"] = number(BY_CHANCE * len(judged), 1)
    values_of_claims["OrientationOfClaims"] = "portrait" if len(judged_models(judged)) <= UPRIGHT else "landscape"
    return values_of_claims


def _of_each_claim(claims: list[dict[str, Any]]) -> dict[str, str]:
    values_of_claims = {}
    for claim in claims:
        if claim["statistic"] is None or claim["identity"]:
            continue
        name = macro_name(claim["id"])
        decimals = DECIMALS[claim["unit"]]
        values = [entry["value"] for entry in claim["models"] if entry["value"] is not None]
        values_of_claims[f"{name}ByModel"] = _listed(_entry(entry, decimals) for entry in claim["models"]) or NONE
        values_of_claims[f"{name}Range"] = _span(values, decimals)
        values_of_claims[f"{name}Paper"] = number(claim["paper_value"], decimals)
        values_of_claims[f"{name}Null"] = span([entry["null"] for entry in claim["models"]], decimals)
    return values_of_claims


def _together(runs: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Claims of several runs, each with the models of all of them."""
    models: dict[str, list[dict[str, Any]]] = {}
    for claim in (claim for run in runs for claim in run):
        models.setdefault(claim["id"], []).extend(claim["models"])
    return [claim | {"models": models[claim["id"]]} for claim in (runs[0] if runs else [])]


def _of_findings(findings: pl.DataFrame, studies: list[dict[str, Any]]) -> dict[str, str]:
    """Of each study beyond the paper its statistics, by model; and in how many models they differ from the null."""
    values_of_findings = {}
    for study, statistic in ((s["id"], name) for s in studies for name in (s["primary"], *s["secondary"])):
        rows = findings.filter(study=study, statistic=statistic)
        name = f"Finding{macro_name(study)}{macro_name(statistic.replace('_', '-')).translate(DIGITS)}"
        several = rows["tokens"].n_unique() > 1
        said = rows.drop_nulls("value").with_columns(
            model=pl.format("{}, {}", "model", "tokens") if several else pl.col("model")
        )
        values_of_findings[f"{name}ByModel"] = _listed(_entry(row, 2) for row in said.to_dicts()) or NONE
        values_of_findings[f"{name}Range"] = _span(said["value"].to_list(), 2)
        values_of_findings[f"{name}Null"] = _span(rows["null"].drop_nulls().to_list(), 2)
        for outcome, count in ((ABOVE, "Above"), (BELOW, "Below")):
            values_of_findings[f"{name}{count}"] = integer(rows["outcome"].to_list().count(outcome))
        values_of_findings[f"{name}Count"] = integer(len(said))
    return values_of_findings


def _of_costs(costs: pl.DataFrame) -> dict[str, str]:
    longest = costs.row(costs["cpu_time"].arg_max(), named=True)
    return {
        "CostJobs": integer(costs["jobs"].sum()),
        "CostWallMinutes": number(costs["wall_time"].sum() / 60, 0),
        "CostProcessorMinutes": number(costs["cpu_time"].sum() / 60, 0),
        "CostGpuMinutes": number(costs["gpu_time"].sum() / 60, 0),
        "CostMemory": number(costs["memory"].max() * 2**20 / 1e9, 1),
        "CostLongestRule": _code(longest["rule"]),
        "CostLongestShare": number(100 * longest["cpu_time"] / costs["cpu_time"].sum(), 0),
    }


def _entry(entry: dict[str, Any], decimals: int) -> str:
    ends = "" if entry["low"] is None else f" {interval(entry['low'], entry['high'], decimals)}"
    return f"{number(entry['value'], decimals)}{ends} ({_code(entry['model'])})"


def _span(values: list[float], decimals: int) -> str:
    if not values:
        return NONE
    low, high = number(min(values), decimals), number(max(values), decimals)
    return low if low == high else f"{low} to {high}"


def _repair(row: dict[str, Any]) -> str:
    name = "mean_self_repair"
    return f"{number(row[name], 2)} {interval(row[f'{name}_low'], row[f'{name}_high'], 2)}"


def _range(values: pl.Series) -> str:
    low, high = values.min(), values.max()
    return integer(low) if low == high else f"{integer(low)} to {integer(high)}"


def _listed(items: Iterable[str]) -> str:
    items = list(items)
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def _code(name: str) -> str:
    return rf"\texttt{{{escape(name)}}}"


def write_macros(
    run_record: Path,
    models: Path,
    heads: list[Path],
    layers: list[Path],
    claims: Path,
    costs: Path,
    listed: Path,
    findings: Path,
    beyond: Path,
    output: Path,
    studies: list[Path] = [],  # noqa: B006
    family: list[Path] = [],  # noqa: B006
) -> None:
    """Write the numbers of the paper's prose, and the sentences that results decide, as TeX macros.

    Args:
        run_record: run.json of record_run.
        models: models.csv of model_overview.
        heads: heads.parquet of each model.
        layers: layers.parquet of each model.
        claims: claims.json of check_claims.
        costs: costs.csv of record_costs.
        listed: paper/statements.yaml.
        findings: findings.csv of table_findings.
        beyond: config/studies.yaml.
        output: TeX file to write.
        studies: claims.json of other runs that the paper tells of.
        family: Parquet files of a controlled family, named after the tables of `arms.TABLES`.
    """
    values = macros(
        json.loads(run_record.read_text()),
        read_models(models),
        read_wide(heads, "top"),
        read_wide(layers, "top"),
        read_claims(claims),
        pl.read_csv(costs),
        yaml.safe_load(listed.read_text()),
        pl.read_csv(findings, schema={name: column.dtype for name, column in FOUND.items()}),
        yaml.safe_load(beyond.read_text())["studies"],
        _together(list(map(read_claims, studies))),
        {file.stem: pl.read_parquet(file) for file in family},
    )
    write_text(output, definitions(values))
