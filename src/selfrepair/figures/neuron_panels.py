"""What the figures about single neurons share: a panel per ablated head and MLP."""

import altair as alt
import polars as pl

from selfrepair.figures import theme

HEIGHT = 110  # px of a panel
ROW_GAP = 66  # px between rows, for an axis and a title
NOTHING = "None of the chosen heads is read by an MLP whose neurons are looked at."
SETS = {"direct_effect": "Top tokens by direct effect", "top_mlp_repair": "Tokens that MLPs repair most"}

COLORS = {"direct_effect": theme.BLUE, "top_mlp_repair": theme.ORANGE}
DASHES = {"direct_effect": [1, 0], "top_mlp_repair": [3, 2]}

Key = tuple[int, int, int]


def by_head_and_mlp(table: pl.DataFrame, last_only: bool = False) -> dict[Key, pl.DataFrame]:
    """Divide a table by (layer, head, mlp_layer), in order; with `last_only`, each head's last MLP alone."""
    parts = table.sort("layer", "head", "mlp_layer", maintain_order=True).partition_by(
        "layer", "head", "mlp_layer", as_dict=True, maintain_order=True
    )
    if not last_only:
        return parts
    last = {(layer, head): mlp for layer, head, mlp in parts}
    return {key: part for key, part in parts.items() if last[key[:2]] == key[2]}


def name(key: Key) -> str:
    """Title of a panel."""
    layer, head, mlp = key
    return f"L{layer}H{head}, MLP {mlp}"


def nothing(what: str) -> alt.LayerChart:
    """The figure of a model of which there is nothing to draw."""
    empty = theme.words(NOTHING, 10, 20, align="left").properties(width=theme.FULL_WIDTH // 2, height=40)
    return theme.themed(empty, f"{what}: {NOTHING}")


def grid(panels: list[theme.Panel], columns: int) -> alt.ConcatChart:
    """Panels in rows, aligned by their axes."""
    return alt.concat(*panels, columns=columns, bounds="flush", spacing={"row": ROW_GAP, "column": theme.GAP})
