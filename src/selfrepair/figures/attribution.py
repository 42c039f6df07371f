"""Error of the gradient estimate of an ablation against the head's self-repair (study `attribution`)."""

import altair as alt
import polars as pl

from selfrepair.figures import theme

REPAIR, ERROR = "self_repair", "error"
HEADS = {  # what the dots are, and their colour
    "later half": theme.BLUE,
    "earlier half": theme.ORANGE,
    "later half, shuffled weights": theme.MUTED,
}
COLUMNS = 3  # at most
SIZE = 190  # px: height of a panel
WORDS = 0.15  # of the height, kept free above the dots
AXIS = 24  # px of the numbers beside a panel that is not the first


def attribution(heads: pl.DataFrame, findings: pl.DataFrame) -> alt.ConcatChart:
    """Draw the mean error of the estimate against mean self-repair (logits), a dot per head, a panel for each model.

    Args:
        heads: `ATTRIBUTION` of models, and of their null twins if there are any.
        findings: `FINDINGS` of the same.
    """
    models, of = theme.with_twins(heads)
    late = 2 * pl.col("layer") >= pl.col("n_layers")
    table = (
        heads.filter(pl.col("quantity").is_in([REPAIR, ERROR]), tokens="top")
        .filter(~pl.col("model").is_in(list(of)) | late)
        .with_columns(
            heads=pl.when(pl.col("model").is_in(list(of)))
            .then(pl.lit("later half, shuffled weights"))
            .otherwise(pl.when(late).then(pl.lit("later half")).otherwise(pl.lit("earlier half")))
        )
        .with_columns(pl.col("model").replace(of))
        .pivot(on="quantity", index=["model", "heads", "layer", "head"], values=["value", "low", "high"])
    )
    columns = theme.columns_of(len(models), COLUMNS)
    correlations = findings.filter(statistic="error_follows_repair").rows_by_key("model", named=True, unique=True)
    shuffled = {name: twin for twin, name in of.items()}
    panels = [
        _panel(table.filter(model=name), name, correlations[name], correlations.get(shuffled.get(name, "")), i, columns)
        for i, name in enumerate(models)
    ]
    return theme.themed(
        alt.concat(*panels, columns=columns),
        "Error of attribution patching: mean error of the gradient estimate of an ablation's effect against the head's "
        "mean self-repair, both in logits, a dot for each head, on its top tokens, with 95 % intervals, for "
        f"{', '.join(models)}; and the rank correlation of the two over the heads of the later half of the layers.",
        [
            "Resample ablation; each head's 2 % of tokens with the largest direct effect. Bars: 95 % intervals, "
            "bootstrap by document.",
            "r: rank correlation over heads of the later half. At 0 what responds is linear; on the dashed line the "
            "estimate foresees no repair.",
        ],
    )


def _panel(
    table: pl.DataFrame, model: str, found: dict, of_twin: dict | None, index: int, columns: int
) -> alt.LayerChart:
    x_domain, y_domain = (theme.padded(table[f"low_{of}"].min(), table[f"high_{of}"].max()) for of in (REPAIR, ERROR))
    y_domain[1] += WORDS * (y_domain[1] - y_domain[0])
    x = alt.X(
        f"value_{REPAIR}:Q",
        title="Self-repair (logits)",
        scale=alt.Scale(domain=x_domain, nice=False),
        axis=alt.Axis(tickCount=4),
    )
    y = alt.Y(
        f"value_{ERROR}:Q",
        title="Error of the estimate (logits)" if index % columns == 0 else None,
        scale=alt.Scale(domain=y_domain, nice=False),
        axis=alt.Axis(tickCount=5, grid=False),
    )
    color = alt.Color("heads:N", scale=alt.Scale(domain=list(HEADS), range=list(HEADS.values())), title="Heads")
    shape = alt.Shape("heads:N", scale=alt.Scale(domain=list(HEADS), range=["circle", "triangle-up", "square"]))
    base = alt.Chart(theme.embed(table.drop("model"))).encode(color=color)
    across = base.mark_rule(opacity=0.4).encode(x=alt.X(f"low_{REPAIR}:Q"), x2=f"high_{REPAIR}:Q", y=y)
    upright = base.mark_rule(opacity=0.4).encode(x=x, y=alt.Y(f"low_{ERROR}:Q"), y2=f"high_{ERROR}:Q")
    tooltip = [alt.Tooltip("layer:Q"), alt.Tooltip("head:Q"), alt.Tooltip("heads:N")]
    for column, title in ((REPAIR, "self-repair"), (ERROR, "error")):
        tooltip.append(alt.Tooltip(f"value_{column}:Q", title=f"{title} (logits)", format=".4f"))
        tooltip += [alt.Tooltip(f"{e}_{column}:Q", title=f"{title}, 95 % {e}", format=".4f") for e in ("low", "high")]
    dots = base.mark_point(filled=True, opacity=0.9, size=min(26.0, 6000 / len(table))).encode(
        x=x, y=y, shape=shape, tooltip=tooltip
    )
    width = theme.panel_width(columns, theme.FULL_WIDTH - AXIS * (columns - 1))
    said = [_said("r", found), *([] if of_twin is None else [_said("shuffled: r", of_twin)])]
    words = [theme.words(text, width - 4, 10 + 13 * line, align="right") for line, text in enumerate(said)]
    return alt.layer(
        *theme.zero_lines(), theme.falling_line(x_domain, y_domain), across, upright, dots, *words
    ).properties(width=width, height=SIZE, title=model)


def _said(name: str, found: dict) -> str:
    value, low, high = (f"{found[of]:.2f}" for of in ("value", "low", "high"))
    return f"{name} = {value} [{low}, {high}]"
