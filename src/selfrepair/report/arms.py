"""What a controlled family found: its table, the paper's numbers, its page, and what is kept of it with the code."""

import shutil
from functools import partial
from pathlib import Path

import polars as pl

from selfrepair.core.files import write_atomically, write_text
from selfrepair.report.latex import LatexColumn, escape, interval, number, table

# Of a run's folder, what is kept; the second part once all arms are compared.
OF_ARMS, OF_ALL = "arms/*/*", ("analysis/*", "figures/architecture*.png")
PARTS = {"self_repair": "self-repair", "repair_norm": "norm", "repair_attention": "attention", "repair_mlp": "MLPs"}
MATCHED = {"steps": "the same step", "loss": "the same loss"}
TABLES = ("arms", "differences", "onset", "evidence")
THIRDS = (
    "last_minus_first_third",
    "most_minus_least_displaced_third",
)  # growth of repair with the distance of the stream
DIGITS = {"loss_saved": 3, "cost_without_repair": 3}  # of nats
COMES = {"before": "comes before", "not told apart": "is not told apart in time from", "after": "comes after"}
LATER = "doublings of the step after direct effects (below zero: before)"
NONE = "none"
MOVED = {"raises": "raised", "lowers": "lowered"}
CHANCE = 0.05  # of an interval to leave out what is so


def table_of_arms(differences: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Each feature's effect on self-repair and its parts, at the same step and at the same loss: rows, and as LaTeX.

    Args:
        differences: `ARM_DIFFERENCES`.
    """
    columns = [LatexColumn("arm", "Feature", "tex", align="l")]
    for part in PARTS:
        columns += [LatexColumn(part, "difference", decimals=2)]
        columns += [LatexColumn(part, r"95\,\% interval", "interval", decimals=2)] if part == "self_repair" else []
    columns.append(LatexColumn("answer", "Self-repair", "tex", align="l"))
    spans = [("", 1), ("Self-repair", 2), ("Norm", 1), ("Attention", 1), ("MLPs", 1), ("", 1)]
    groups = []
    for matched, name in MATCHED.items():
        rows = [
            {"arm": escape(str(arm)), "answer": escape(of["self_repair"]["answer"])}
            | {part: entry["value"] for part, entry in of.items()}
            | {f"self_repair_{end}": of["self_repair"][end] for end in ("low", "high")}
            for (arm,), part_rows in differences.filter(matched=matched).group_by("arm", maintain_order=True)
            for of in [part_rows.rows_by_key("part", named=True, unique=True)]
        ]
        groups.append((f"At {name}", rows))
    return differences, table(columns, groups, spans, "longtable")


def family_macros(tables: dict[str, pl.DataFrame]) -> dict[str, str]:
    """Numbers of the paper's prose about a family, by the names of their macros.

    Args:
        tables: `ARMS`, `ARM_DIFFERENCES`, `ARM_ONSET` and `EVIDENCE` by the names of `TABLES`.
    """
    arms, differences, onset, evidence = (tables[name] for name in TABLES)
    base, norm = (arms.filter(arm="base", part=part) for part in ("self_repair", "repair_norm"))
    trainings = arms.select("arm", "seed").unique()
    macros = {
        "FamilyTrainings": f"{trainings.height}",
        "FamilyBaseSeeds": f"{len(base)}",
        "FamilyPairs": _span(differences["n_seeds"].to_list()),
        "FamilyBound": f"{differences['bound'].max():g}",
    }
    for name, column in (("Range", base["value"]), ("Null", base["null"]), ("NormNull", norm["null"])):
        macros[f"FamilyBase{name}"] = f"{number(column.min(), 2)} to {number(column.max(), 2)}"
    for place, matched, said, shown in (
        ("AtSteps", "steps", "answer", _estimate),
        ("AtLoss", "loss", "answer", _estimate),
        ("Pooled", "steps", "pooled_answer", _pooled),
    ):
        for verb, features in answers(differences, matched, said).items():
            listed = ", ".join(f"{escape(name)} {shown(row)}" for name, row in features.items())
            macros[f"Family{verb.title()}{place}"] = listed or NONE
    macros["FamilyPartsCompared"] = str(len(_parts(differences)))
    for verb, name in MOVED.items():
        macros[f"FamilyParts{name.title()}"] = escape(moved_parts(differences, verb))
    for row in differences.filter(matched="steps").to_dicts():
        macros[f"Family{_letters(row['arm'])}{_letters(row['part'])}"] = f"{_estimate(row)} ({escape(row['answer'])})"
    for row in onset.filter(arm="base").to_dicts():
        macros[f"Onset{_letters(row['of'])}{_letters(row['quantity'])}"] = _estimate(row, 1)
    for row in evidence.filter(pl.col("seed").is_null(), pl.col("layer").is_null()).to_dicts():
        name = "".join(map(_letters, (row["statistic"], row["of"], row["tokens"])))
        macros[f"Evidence{name}"] = _estimate(row, DIGITS.get(row["statistic"], 2))
    return macros | {f"Says{name}": sentence for name, sentence in sentences(evidence).items()}


def sentences(evidence: pl.DataFrame) -> dict[str, str]:
    """What the intervals of the means over seeds say for an artefact, and for an adaptation."""
    mean = evidence.filter(pl.col("seed").is_null(), pl.col("layer").is_null())
    moved = mean.filter(statistic="far_minus_near", of="distance")["low"].item() > 0
    far = pl.col("statistic") == "far_minus_near", pl.col("of") == "repair", pl.lit(moved)
    growth = mean.filter(pl.col("statistic").is_in(THIRDS) | pl.all_horizontal(far))
    how = "with the whole interval"
    artefact = (
        f"Of {len(growth)} comparisons of repair by the distance of the stream {(growth['low'] > 0).sum()} lie above "
        f"zero {how}, as an artefact would have it."
    )
    if not moved:
        artefact += " That of far with near rows is no test: far rows put the stream no farther than near ones."
    gain = mean.filter(statistic="gain_on_guessing", tokens="all")
    known, guessed = (gain.filter((pl.col("value") > 0) == better)["of"].to_list() for better in (True, False))
    saved = mean.filter(pl.col("of").is_in(known), statistic="loss_saved")
    top, every = ((saved.filter(tokens=tokens)["low"] > 0).sum() for tokens in ("top", "all"))
    adaptation = (
        f"Of {len(known)} kinds of text and prompts repair saves loss on top tokens in {top} and on all tokens in "
        f"{every}, {how}."
    )
    if guessed:
        adaptation += f" Left out, since a uniform guess has a lower loss there: {', '.join(guessed)}."
    return {"Artefact": artefact, "Adaptation": adaptation}


def answers(differences: pl.DataFrame, matched: str, said: str = "answer") -> dict[str, dict[str, dict]]:
    """Features with their rows, by what a column says that they do to self-repair: raises, lowers, small, undecided."""
    rows = differences.filter(matched=matched, part="self_repair").to_dicts()
    kinds = {"raises": "raises", "lowers": "lowers", "small": "no effect", "undecided": "undecided"}
    return {name: {r["arm"]: r for r in rows if r[said].startswith(begins)} for name, begins in kinds.items()}


def _parts(differences: pl.DataFrame) -> pl.DataFrame:
    return differences.filter(pl.col("part") != "self_repair", matched="steps")


def moved_parts(differences: pl.DataFrame, answer: str) -> str:
    """Which parts of self-repair are raised, or lowered, by which feature at the same step."""
    rows = _parts(differences).filter(answer=answer).to_dicts()
    return ", ".join(f"{PARTS[row['part']]} by {row['arm']}" for row in rows) or NONE


def features(differences: pl.DataFrame) -> str:
    """A Markdown table: what each feature does to self-repair and its parts at the same step; bold if beside zero."""
    lines = [
        f"| feature | {' | '.join(PARTS.values())} | {' | '.join(MATCHED.values())} | second interval |",
        "|---|" + "---:|" * len(PARTS) + "---|---|---|",
    ]
    for (arm,), rows in differences.group_by("arm", maintain_order=True):
        at_steps, at_loss = (rows.filter(matched=m).rows_by_key("part", named=True, unique=True) for m in MATCHED)
        numbers = [f"**{plain(of)}**" if of["answer"] in MOVED else plain(of) for of in map(at_steps.get, PARTS)]
        whole = at_steps["self_repair"]
        said = [whole["answer"], at_loss["self_repair"]["answer"], f"{whole['pooled_answer']} {_ends(whole)}"]
        lines.append(f"| {arm} | {' | '.join(numbers)} | {' | '.join(said)} |")
    return "\n".join(lines)


def family_found(differences: pl.DataFrame, onset: pl.DataFrame, evidence: pl.DataFrame) -> str:
    """The answers of a family, as Markdown."""
    compared = len(_parts(differences))
    mean = evidence.filter(pl.col("seed").is_null(), pl.col("layer").is_null())
    of = {(row["statistic"], row["of"], row["tokens"]): plain(row) for row in mean.to_dicts()}
    far, displaced = (of[statistic, "other", "top"] for statistic in THIRDS)
    later = {row["of"]: row for row in onset.filter(arm="base", quantity="self_repair").to_dicts()}
    says = sentences(evidence)
    blocks = [
        "**Which architecture.** Models that differ from a base in one feature, trained for this package "
        f"({_span(differences['n_seeds'].to_list())} pairs of seeds each): what the feature adds to self-repair of the "
        "later half and to its parts, in shares of the direct effect, at the same step. Bold: the whole 95 % interval "
        f"is beside zero, as by chance {CHANCE * compared:.1f} of the {compared} parts would be. Then what it does to "
        "self-repair at the same step, at the same loss, and with the variance between seeds of all trainings (a "
        "second interval, written down later).",
        features(differences),
        "**Adaptation, or an artefact?** In the base, with repair as a part of the removed direct effect:",
        f"- *An artefact* grows with the distance of the ablated stream from usual ones. On the third of the tokens "
        f"where it is farthest minus the nearest third: {far}; on the third that the ablation moves outward most minus "
        f"least: {displaced}. {says['Artefact']}\n"
        f"- *An adaptation* saves loss. {says['Adaptation']}\n"
        f"- *Along training* self-repair in logits {COMES[later['mean']['answer']]} direct effects: it has half of its "
        f"last size {plain(later['mean'], 1)} {LATER}, its share of the direct effect {plain(later['share'], 1)}.",
    ]
    return "\n\n".join(blocks)


def by_seed(arms: pl.DataFrame) -> str:
    """A Markdown table: self-repair after the last step, arm minus base, of each pair of seeds."""
    repair = arms.filter(part="self_repair").select("arm", "seed", "value")
    base = dict(repair.filter(arm="base").select("seed", "value").rows())
    lines = ["| feature | " + " | ".join(f"seed {seed}" for seed in base) + " |", "|---|" + "---:|" * len(base)]
    for (arm,), rows in repair.filter(pl.col("arm") != "base").group_by("arm", maintain_order=True):
        value = dict(rows.select("seed", "value").rows())
        numbers = (f"{value[seed] - base[seed]:.2f}" if seed in value else "not trained" for seed in base)
        lines.append(f"| {arm} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def weighed(onset: pl.DataFrame, evidence: pl.DataFrame) -> str:
    """A Markdown table of what speaks for adaptation and what for an artefact."""
    mean = evidence.filter(pl.col("seed").is_null(), pl.col("layer").is_null())
    lines = ["| statistic | of | tokens | mean over seeds, 95 % interval |", "|---|---|---|---:|"]
    for row in onset.filter(arm="base").to_dicts():
        lines.append(f"| {LATER} | {row['quantity']} ({row['of']}) | top | {plain(row)} |")
    for row in mean.to_dicts():
        numbers = plain(row, DIGITS.get(row["statistic"], 2))
        lines.append(f"| {row['statistic']} | {row['of']} | {row['tokens']} | {numbers} |")
    return "\n".join(lines)


def keep_arms(run: Path, study: Path) -> None:
    """Keep what is finished: the small tables of every training; and, once compared, tables, figures and a page.

    Args:
        run: folder of the family's run.
        study: folder under results/studies/.
    """
    for file in [file for pattern in (OF_ARMS, *OF_ALL) for file in sorted(run.glob(pattern))]:
        name = file.relative_to(run) if file.match(OF_ARMS) else file.name
        write_atomically(study / name, partial(shutil.copyfile, file))
    kept = sorted(path.parent.name for path in study.glob("arms/*/arm.json"))
    print(f"{len(kept)} trainings are kept in {study}")
    if all((study / f"{name}.parquet").is_file() for name in TABLES):
        read = {name: pl.read_parquet(study / f"{name}.parquet") for name in TABLES}
        write_text(study / "README.md", _page(read))


def _page(tables: dict[str, pl.DataFrame]) -> str:
    command = "snakemake --cores all --configfile config/studies/architecture.yaml"
    one = f"{command} results/architecture/arms/{tables['differences']['arm'][0]}-1/sums.parquet"
    trainings = tables["arms"].select("arm", "seed").unique().height
    return "\n".join(
        [
            "# architecture",
            "",
            f"{trainings} trainings, made by `{command}`, which finds them up to date. One is made again by `{one}`.",
            "",
            "Arm minus base at the same step, in shares of the direct effect (heads of the later half, top tokens), "
            "with 95 % intervals over seeds and documents; bold: the whole interval is beside zero. Then what the "
            "feature does to self-repair at the same step, at the same loss (its parts there: `differences.csv`), and "
            "with the variance between seeds of all trainings.",
            "",
            "![architecture](architecture.png)",
            "",
            features(tables["differences"]),
            "",
            by_seed(tables["arms"]),
            "",
            "Adaptation, or an artefact? Of the base; losses in nats per token, otherwise ratios.",
            "",
            "![adaptation](architecture_adaptation.png)",
            "",
            weighed(tables["onset"], tables["evidence"]),
            "",
            "![along training](architecture_course.png)",
            "",
            "![loss](architecture_loss.png)",
            "",
        ]
    )


def _estimate(row: dict, decimals: int = 2) -> str:
    return f"{number(row['value'], decimals)} {interval(row['low'], row['high'], decimals)}"


def _pooled(row: dict) -> str:
    return interval(row["pooled_low"], row["pooled_high"], 2)


def _ends(row: dict) -> str:
    return f"[{row['pooled_low']:.2f}, {row['pooled_high']:.2f}]"


def plain(row: dict, decimals: int = 2) -> str:
    """A value with its interval, in Markdown."""
    zero = f"{-0.0:.{decimals}f}"
    value, low, high = (f"{row[name]:.{decimals}f}".replace(zero, zero[1:]) for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _span(counts: list[int]) -> str:
    return " to ".join(map(str, dict.fromkeys((min(counts), max(counts)))))


def _letters(name: str) -> str:
    """Of a name, for that of a macro: `no-final-norm` is `NoFinalNorm`."""
    return "".join(word.capitalize() for word in name.replace("_", " ").replace("-", " ").split())
