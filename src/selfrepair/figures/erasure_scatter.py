"""Does the neuron that changes most erase, and erase less on ablation (the paper's erasure scatter)?"""

import altair as alt
import numpy as np
import polars as pl

from selfrepair.figures import theme
from selfrepair.figures.neuron_panels import SETS, by_head_and_mlp, name, nothing

WHAT = "Erasure by the neuron that changes most"
DRAWN = 125  # tokens of a panel
BINS = 30
HISTOGRAM = 34  # px
WIDEST = 200  # px of a panel
_DRAWN = ("clean", "ablated", "mlp_direct_effect")


def erasure_scatter(tokens: pl.DataFrame, shares: pl.DataFrame) -> theme.Panel:
    """Draw ablated against clean direct effect of each token's most changing neuron, for each head's last MLP.

    The original's tokens are those of the set `top_mlp_repair`, on which the change is large by selection
    (pitfall:outcome-selection); the tokens by direct effect stand beside them. Its colour is the clean direct effect of
    the last MLP, which its code calls corrupted (pitfall:colour-label); here it is that of the panel's MLP.

    Args:
        tokens: `NEURON_TOKENS` of one model.
        shares: `NEURON_SHARES` of it.
    """
    if tokens.is_empty():
        return nothing(WHAT)
    (model,) = theme.names(shares)
    first = tokens.with_columns(
        clean=pl.col("neuron_direct_effect").arr.first(),
        change=pl.col("neuron_change").arr.first(),
        first_neuron=pl.col("neuron").arr.first(),
    ).with_columns(ablated=pl.col("clean") + pl.col("change"))
    parts = by_head_and_mlp(first, last_only=True)
    columns = theme.columns_of(len(parts))
    drawn = pl.concat(list(parts.values()))
    limit = 1.05 * max(drawn[c].abs().max() for c in ("clean", "ablated")) or 1.0
    extent = float(np.percentile(drawn["mlp_direct_effect"].abs().to_numpy(), 95)) or 1.0
    rows = []
    for chosen, words in SETS.items():
        panels = [
            _panel(
                part.filter(f"by_{chosen}"), _anti_erasing(shares, key, chosen), name(key), (limit, extent), i, columns
            )
            for i, (key, part) in enumerate(parts.items())
        ]
        rows.append(alt.concat(*panels, columns=columns).properties(title=words))
    return theme.themed(
        alt.vconcat(*rows, spacing=24),
        f"{WHAT}, {model}: direct effect in logits of each token's most changing neuron in the ablated against the "
        "clean pass, and histogram of the clean one. Left of 0 and above the dashed line y = x it erases less on "
        "ablation; the share of such tokens is given with its 95 % interval.",
        [
            f"{model}; resample ablation; a dot is a token, at most {DRAWN} of a panel; histograms and percentages are "
            "of all tokens of the set,",
            "each histogram to a scale of its own. Percentage: tokens on which the neuron erases in the clean pass and "
            "changes upwards,",
            "95 % interval, bootstrap by document.",
        ],
    )


def _anti_erasing(shares: pl.DataFrame, key: tuple[int, int, int], chosen: str) -> str:
    keys = dict(zip(("layer", "head", "mlp_layer"), key, strict=True))
    share = shares.filter(quantity="first_anti_erasing", token_set=chosen, **keys).row(0, named=True)
    return f"{100 * share['value']:.0f} % [{100 * share['low']:.0f}, {100 * share['high']:.0f}]"


def _panel(
    part: pl.DataFrame, share: str, title: str, ends: tuple[float, float], index: int, columns: int
) -> alt.VConcatChart:
    limit, extent = ends
    width = min(theme.panel_width(columns), WIDEST)
    scale = alt.Scale(domain=[-limit, limit], nice=False)
    dots = part.sort("row", "pos")[:: -(-len(part) // DRAWN)]
    dots = dots.select("row", "pos", "first_neuron", *(pl.col(c).cast(pl.Float64) for c in _DRAWN))
    counts, edges = np.histogram(part["clean"].cast(pl.Float64), BINS, (-limit, limit))
    bars = pl.DataFrame({"from": edges[:-1], "to": edges[1:], "count": counts.astype(float)})
    histogram = (
        alt.Chart(theme.embed(bars))
        .mark_rect(color=theme.SKY)
        .encode(
            x=alt.X("from:Q", scale=scale, axis=None),
            x2="to:Q",
            y=alt.Y("count:Q", axis=None),
            y2=alt.datum(0),
            tooltip=[alt.Tooltip(f"{c}:Q", format=".3f") for c in ("from", "to", "count")],
        )
        .properties(width=width, height=HISTOGRAM, title=title)
    )
    x = alt.X("clean:Q", title="Clean (logits)", scale=scale, axis=alt.Axis(tickCount=4))
    y = alt.Y("ablated:Q", scale=scale, axis=theme.left_only("Ablated (logits)", index, columns, tickCount=4))
    color = alt.Color(
        "mlp_direct_effect:Q",
        title="Clean direct effect of the MLP (logits)",
        scale=alt.Scale(scheme="blueorange", domain=[-extent, extent], reverse=True, clamp=True),
        legend=alt.Legend(gradientLength=200, titleLimit=300, format="~g"),
    )
    tooltip = [alt.Tooltip("row:Q"), alt.Tooltip("pos:Q"), alt.Tooltip("first_neuron:Q", title="neuron")]
    tooltip += [
        alt.Tooltip(f"{c}:Q", title=f"{words} (logits)", format=".3f")
        for c, words in (("clean", "clean"), ("ablated", "ablated"), ("mlp_direct_effect", "clean, whole MLP"))
    ]
    points = (
        alt.Chart(theme.embed(dots))
        .mark_circle(size=9, opacity=0.9, stroke=theme.MUTED, strokeWidth=0.15)
        .encode(x=x, y=y, color=color, tooltip=tooltip)
    )
    corners = pl.DataFrame({"clean": [-limit, limit], "ablated": [-limit, limit]})
    diagonal = (
        alt.Chart(theme.embed(corners)).mark_line(strokeDash=[5, 3], strokeWidth=1, color=theme.INK).encode(x=x, y=y)
    )
    zero = {"color": theme.GRID, "strokeWidth": 1.2}
    upright = alt.Chart(alt.InlineData(values=[{}])).mark_rule(**zero).encode(x=alt.datum(0))
    label = theme.words(share, 4, 8, align="left")
    layered = alt.layer(theme.level(0, **zero), upright, diagonal, points, label).properties(width=width, height=width)
    return alt.vconcat(histogram, layered, spacing=3)
