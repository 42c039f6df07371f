"""Tables of the paper: the models, self-repair of each layer, and the heads with the largest direct effects.

Each function returns the rows (for CSV) and the same as LaTeX. Definitions: experiments.md a.6 to a.11.
"""

from typing import Any

import polars as pl

from selfrepair.latex import Column, escape, number, table

TOP_HEADS = 10
Table = tuple[pl.DataFrame, str]

PARTS = ["repair_norm", "repair_attention", "repair_mlp"]


def models(overview: pl.DataFrame) -> Table:
    """Models of the run (`overview.MODELS`)."""
    columns = [
        Column("model", "Model", "code", align="l"),
        Column("family", "Family", "code", align="l"),
        Column("n_layers", "layers", "whole"),
        Column("n_heads", "heads", "whole"),
        Column("d_model", "width", "whole"),
        Column("d_mlp", "neurons", "whole"),
        Column("parameters", "Parameters", "whole"),
        Column("held_out_loss", "model", decimals=2),
        Column("bigram_loss", "bigram", decimals=2),
        Column("tokens", "scored", "whole"),
        Column("top_tokens", "top", "whole"),
        Column("heads_above_1", "DE${}>1$", "whole"),
        Column("load_error", "Load error", "scientific"),
    ]
    spans = [("", 2), ("Size", 4), ("", 1), ("Loss (nats/token)", 2), ("Tokens", 2), ("Heads", 1), ("", 1)]
    return overview, table(columns, [(None, overview.to_dicts())], spans)


def layers(wide: pl.DataFrame) -> Table:
    """Self-repair of each layer on top tokens and its split; means over the layer's heads.

    Args:
        wide: layers of all models, from `summaries.wide`.
    """
    rows = wide.select(
        "model",
        "layer",
        direct_effect="mean_direct_effect",
        delta_logit="mean_delta_logit",
        self_repair="mean_self_repair",
        self_repair_low="mean_self_repair_low",
        self_repair_high="mean_self_repair_high",
        **{part: f"mean_{part}" for part in PARTS},
        share="share_self_repair",
        share_low="share_self_repair_low",
        share_high="share_self_repair_high",
        clipped_share="clipped_share_self_repair",
    )
    columns = [
        Column("layer", "Layer", "whole"),
        Column("direct_effect", "DE"),
        Column("delta_logit", r"$\Delta\ell$"),
        Column("self_repair", "SR"),
        Column("self_repair", r"95\,\% interval", "interval"),
        Column("repair_norm", "norm"),
        Column("repair_attention", "attention"),
        Column("repair_mlp", "MLP"),
        Column("share", "SR/DE", decimals=2),
        Column("clipped_share", "clipped", decimals=2),
    ]
    spans = [("", 1), ("Mean (logits)", 4), ("Split of SR (logits)", 3), ("Share of DE", 2)]
    return rows, table(columns, _by_model(rows), spans, environment="longtable")


def heads(wide: pl.DataFrame, count: int = TOP_HEADS) -> Table:
    """The `count` heads of each model with the largest mean direct effect on their top tokens, largest first.

    Args:
        wide: heads of all models, from `summaries.wide`.
    """
    order = wide["model"].unique(maintain_order=True)
    largest = pl.concat(
        [wide.filter(pl.col("model") == name).sort("mean_direct_effect", descending=True).head(count) for name in order]
    )
    rows = largest.select(
        "model",
        name=pl.format("L{}H{}", "layer", "head"),
        direct_effect="mean_direct_effect",
        ablated_direct_effect="mean_ablated_direct_effect",
        delta_logit="mean_delta_logit",
        self_repair="mean_self_repair",
        self_repair_low="mean_self_repair_low",
        self_repair_high="mean_self_repair_high",
        **{part: f"mean_{part}" for part in PARTS},
    )
    columns = [
        Column("name", "Head", "code", align="l"),
        Column("direct_effect", "clean"),
        Column("ablated_direct_effect", "ablated"),
        Column("delta_logit", r"$\Delta\ell$"),
        Column("self_repair", "SR"),
        Column("self_repair", r"95\,\% interval", "interval"),
        Column("repair_norm", "norm"),
        Column("repair_attention", "attention"),
        Column("repair_mlp", "MLP"),
    ]
    spans = [("", 1), ("DE (logits)", 2), ("Mean (logits)", 3), ("Split of SR (logits)", 3)]
    return rows, table(columns, _by_model(rows), spans, environment="longtable")


def claims(judged: list[dict[str, Any]]) -> Table:
    """Claims and verdicts (`claims.evaluate`): one row per claim in LaTeX, one per claim and model in the CSV."""
    fields = ["id", "source", "statistic", "unit", "rule", "paper_value", "verdict"]
    of_model = {
        "model": "model",
        "role": "role",
        "value": "value",
        "low": "low",
        "high": "high",
        "model_verdict": "verdict",
    }
    long = [
        {name: claim[name] for name in fields} | {name: entry.get(key) for name, key in of_model.items()}
        for claim in judged
        for entry in claim["models"] or [{}]
    ]
    decided = [claim for claim in judged if claim["statistic"] is not None]
    names = list(dict.fromkeys(entry["model"] for claim in decided for entry in claim["models"]))
    columns = [
        Column("wording", "Claim", "tex", align=r">{\raggedright\arraybackslash}p{0.36\linewidth}"),
        Column("rule", "Holds if", "tex", align=r">{\raggedright\arraybackslash}p{0.15\linewidth}"),
        Column("paper_value", "Paper", decimals=2),
        Column("verdict", "Verdict", "tex", align=r">{\raggedright\arraybackslash}p{0.13\linewidth}"),
        *(Column(name, rf"\rotatebox{{90}}{{\texttt{{{escape(name)}}}}}", "tex") for name in names),
    ]
    rows = [
        claim
        | {name: escape(claim[name]) for name in ("wording", "rule", "verdict")}
        | dict.fromkeys(names, "--")
        | {entry["model"]: _judged(entry) for entry in claim["models"]}
        for claim in decided
    ]
    return pl.DataFrame(long, infer_schema_length=None), table(
        columns, [(None, [row]) for row in rows], environment="longtable"
    )


def _judged(entry: dict[str, Any]) -> str:
    mark = r"$\checkmark$" if entry["holds"] else r"$\times$"
    return rf"{number(entry['value'], 3)}\,\makebox[0.9em][l]{{{mark}}}"


def _by_model(rows: pl.DataFrame) -> list[tuple[str, list[dict[str, Any]]]]:
    grouped = rows.partition_by("model", maintain_order=True)
    return [(rf"\texttt{{{escape(group['model'][0])}}}", group.to_dicts()) for group in grouped]
