"""Single tokens of one head under each kind of ablation: direct effect against the change of the logit."""

from pathlib import Path

import altair as alt
import polars as pl

from selfrepair.figures import theme
from selfrepair.figures.token_scatter import DRAWN, READ, domains, draw_tokens, token_panel

ORDER = ["mean", "zero", "resample"]


def head_to_show(heads: pl.DataFrame) -> tuple[int, int]:
    """The head of the last measured layer with the largest mean direct effect on its top tokens.

    Args:
        heads: `STATISTICS` of one model's heads.
    """
    top = heads.filter(tokens="top", statistic="mean", quantity="direct_effect")
    last = top.filter(pl.col("layer") == pl.col("layer").max())
    return last.sort("value").tail(1).select("layer", "head").row(0)


def ablation_types_of_head(model: str, tokens: list[Path], heads: pl.DataFrame) -> alt.ConcatChart:
    """Draw `ablation_types` of the head of `head_to_show`.

    Args:
        tokens: Parquet files of `ablated_tokens`, in a folder of each kind of ablation.
        heads: `STATISTICS` of the model's heads, resample ablation.
    """
    layer, head = head_to_show(heads)
    kinds = dict.fromkeys(path.parent.name for path in tokens)
    files = {kind: [path for path in tokens if path.parent.name == kind] for kind in kinds}
    rows = {kind: pl.scan_parquet(f).filter(layer=layer, head=head).select(READ).collect() for kind, f in files.items()}
    return ablation_types(model, (layer, head), rows)


def ablation_types(model: str, head: tuple[int, int], tokens: dict[str, pl.DataFrame]) -> alt.ConcatChart:
    """Draw delta_logit against direct_effect (logits) of single tokens of a head, a panel for each kind of ablation.

    Args:
        head: layer and head.
        tokens: the head's token rows (`ablated_tokens`) by kind of ablation.
    """
    drawn = {kind: draw_tokens(tokens[kind]) for kind in ORDER if kind in tokens}
    x_domain, y_domain = domains(pl.concat(drawn.values()))
    width = theme.panel_width(len(ORDER))
    panels = []
    for index, (kind, points) in enumerate(drawn.items()):
        y_axis = theme.left_only("Change of the logit (logits)", index, len(drawn), grid=False)
        panel = token_panel(points, x_domain, y_domain, "Direct effect (logits)", y_axis, width, width)
        panels.append(panel.properties(title=f"{kind.capitalize()} ablation"))
    name = f"L{head[0]}H{head[1]}"
    return theme.themed(
        alt.concat(*panels, columns=len(drawn)),
        f"Kinds of ablation, {model} {name}: change of the correct token's logit against the direct effect of the head "
        f"on single tokens, both in logits, for {', '.join(drawn)} ablation. Above the line y = -x the token is "
        "repaired.",
        [
            f"{model}, {name}: the head of the last layer with the largest direct effect. Up to {DRAWN} control and "
            f"{DRAWN} top tokens,",
            "at random, the same in all panels. Dashed: y = \u2212x. Single tokens, so there are no intervals.",
        ],
    )
