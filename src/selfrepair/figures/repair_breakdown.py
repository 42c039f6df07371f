"""Parts of self-repair beside the direct effect before and after ablation, per layer (the authors' breakdown bars)."""

import altair as alt
import polars as pl

from selfrepair.figures import theme

BARS = {
    "direct_effect": ("direct effect", theme.MUTED),
    "ablated_direct_effect": ("ablated direct effect", "#bdbdbd"),
    "repair_attention": ("repair by later attention", theme.BLUE),
    "repair_mlp": ("repair by MLPs", theme.GREEN),
    "repair_norm": ("repair by the final norm", theme.ORANGE),
}
COLORS = alt.Scale(domain=[name for name, _ in BARS.values()], range=[color for _, color in BARS.values()])
HEIGHT = 130  # px


def repair_breakdown(layers: pl.DataFrame) -> alt.ConcatChart:
    """Draw mean direct effects and parts of self-repair (logits) on the top tokens as bars beside each other, by layer.

    Args:
        layers: `STATISTICS` per layer of one or several models; one row each.
    """
    table = theme.pick(layers, "mean", "top", list(BARS)).with_columns(
        bar=pl.col("quantity").replace_strict({quantity: name for quantity, (name, _) in BARS.items()})
    )
    models = theme.names(table)
    panels = []
    for model in models:
        x_title = "Layer of the ablated heads" if model == models[-1] else None
        panels.append(_panel(table.filter(model=model), x_title).properties(title=model))
    return theme.themed(
        alt.concat(*panels, columns=1),
        "Breakdown of self-repair by layer: mean direct effect before and after ablation and the parts of self-repair "
        "by "
        f"later attention, MLPs and the final norm, in logits, with 95 % intervals, for {', '.join(models)}.",
        [
            f"{theme.describe_ablation(layers)}; means over the heads of a layer, on each head's top tokens by direct "
            "effect. Lines: 95 % intervals, bootstrap by document."
        ],
    )


def _panel(table: pl.DataFrame, x_title: str | None) -> alt.LayerChart:
    domain = theme.padded(table["low"].min(), table["high"].max(), 0.05)
    base = alt.Chart(theme.embed(table.select("layer", "bar", "value", "low", "high"))).encode(
        x=alt.X("layer:O", title=x_title), xOffset=alt.XOffset("bar:N", sort=COLORS.domain)
    )
    bars = base.mark_bar().encode(
        y=alt.Y("value:Q", title="Mean (logits)", scale=alt.Scale(domain=domain, nice=False)),
        color=alt.Color("bar:N", scale=COLORS, title=None),
        tooltip=[
            alt.Tooltip("layer:O"),
            alt.Tooltip("bar:N", title="what"),
            *theme.estimate_tooltips("mean (logits)", ".4f"),
        ],
    )
    lines = theme.interval_bars(base, color=theme.INK)
    width = theme.FULL_WIDTH - theme.AXIS_WIDTH
    return alt.layer(bars, lines, theme.level(0)).properties(width=width, height=HEIGHT)
