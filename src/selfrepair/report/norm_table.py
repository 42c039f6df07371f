"""Table of the paper: does the norm's part depend on which scale is used, and is it the head's own doing?"""

import polars as pl

from selfrepair.analysis.by_document import ALL, LATER
from selfrepair.analysis.final_norm import ACCOUNTINGS, NORM_PARTS, PARTS
from selfrepair.analysis.schema import NORM
from selfrepair.core.tables import Column
from selfrepair.report.latex import LatexColumn, escape, table

_PARTS = {
    "own": "part of the head itself",
    "attention": "part of later attention",
    "mlp": "part of MLPs",
    "norm": "part of the final norm",
    "norm_own": "norm's part if only the head's own output changed",
    "norm_responders": "rest of the norm's part",
}


def _numbers() -> dict[str, Column]:
    columns = {}
    for statistic, unit, meaning in (
        ("mean", "logits", "mean over top tokens"),
        ("share", "ratio", "sum divided by the sum of direct effects"),
    ):
        for part, what in _PARTS.items():
            name = f"{statistic}_{part}"
            columns[name] = Column(pl.Float64, unit, f"{what}: {meaning}; null where the accounting has none")
            for end in ("low", "high"):
                columns[f"{name}_{end}"] = Column(pl.Float64, unit, f"{end} end of its 95 % interval")
    return columns


NORM_TABLE = {
    **{name: NORM[name] for name in ("model", "ablation")},
    "heads": Column(pl.String, "", "all, or those of the later half of the layers"),
    "accounting": Column(pl.String, "", "clean scale, ablated scale, or midpoint"),
} | _numbers()


def norm(table_of_models: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Parts of the change of the logit on top tokens by three accountings, all heads of a model together.

    Args:
        table_of_models: `NORM` of all models and kinds of ablation.

    Returns:
        rows of `NORM_TABLE`, and as LaTeX those of resample ablation and heads of the later half of the layers.
    """
    pooled = table_of_models.filter(
        pl.col("heads").is_in([ALL, LATER]),
        pl.col("tokens") == "top",
        pl.col("accounting").is_in(ACCOUNTINGS),
        pl.col("quantity").is_in([*PARTS, *NORM_PARTS]),
    )
    named = pooled.with_columns(name=pl.col("statistic") + "_" + pl.col("quantity"))
    spread = named.pivot(
        "name", index=["model", "ablation", "heads", "accounting"], values=["value", "low", "high"], maintain_order=True
    )
    names = named["name"].unique(maintain_order=True).to_list()
    ends = {f"{end}_{name}": f"{name}_{end}" for name in names for end in ("low", "high")}
    wide = spread.rename({f"value_{name}": name for name in names} | ends)
    order = [wide["model"].unique(maintain_order=True), wide["ablation"].unique(maintain_order=True), [ALL, LATER]]
    keys = [
        pl.col(name).cast(pl.Enum(values)) for name, values in zip(("model", "ablation", "heads"), order, strict=True)
    ]
    rows = wide.sort(*keys, pl.col("accounting").cast(pl.Enum(ACCOUNTINGS)), maintain_order=True).select(
        list(NORM_TABLE)
    )
    return rows, _latex(rows.filter(ablation="resample", heads=LATER))


def _latex(rows: pl.DataFrame) -> str:
    columns = [
        LatexColumn("accounting", "Accounting", "tex", align="l"),
        LatexColumn("mean_own", "head"),
        LatexColumn("mean_attention", "attention"),
        LatexColumn("mean_mlp", "MLP"),
        LatexColumn("mean_norm", "norm"),
        LatexColumn("mean_norm", r"95\,\% interval", "interval"),
        LatexColumn("mean_norm_own", "head"),
        LatexColumn("mean_norm_responders", "others"),
        LatexColumn("share_norm", "norm/DE", decimals=2),
        LatexColumn("share_norm", r"95\,\% interval", "interval", decimals=2),
    ]
    spans = [("", 1), (r"Part of $\Delta\ell$ (logits)", 5), ("Norm, through", 2), ("Share", 2)]
    groups = rows.partition_by("model", maintain_order=True)
    return table(columns, [(rf"\texttt{{{escape(group['model'][0])}}}", group.to_dicts()) for group in groups], spans)
