"""Columns of what an ablation keeps of each token, and of its sums by document."""

import polars as pl

from selfrepair.schemas.tokens import HEAD, PLACE
from selfrepair.store import Column

EFFECTS = {
    "direct_effect": Column(pl.Float32, "logits", "direct effect of the head, clean run, clean scale"),
    "ablated_direct_effect": Column(pl.Float32, "logits", "direct effect of the head, ablated run, clean scale"),
    "delta_logit": Column(pl.Float32, "logits", "ablated minus clean logit of the correct next token"),
    "self_repair": Column(pl.Float32, "logits", "delta_logit minus the change of the head's own direct effect"),
    "repair_norm": Column(pl.Float32, "logits", "part of self_repair made by the final norm's scale"),
    "repair_attention": Column(pl.Float32, "logits", "part made by attention of later layers"),
    "repair_mlp": Column(pl.Float32, "logits", "part made by MLPs of later layers (own layer's in sequential blocks)"),
}
CLIPPED = {
    f"clipped_{name}": Column(
        pl.Float64, "ratio", f"{name} / direct_effect clipped to [0, 1] per token; 0 where direct_effect is"
    )
    for name in ("self_repair", "repair_norm", "repair_attention", "repair_mlp")
}


def by_layer(n_layers: int) -> dict[str, Column]:
    """Columns that hold one value per later layer."""
    dtype = pl.Array(pl.Float32, n_layers)
    return {
        "repair_attention_by_layer": Column(dtype, "logits", "repair_attention of each layer, by index"),
        "repair_mlp_by_layer": Column(dtype, "logits", "repair_mlp of each layer, by index"),
    }


def ablated_tokens(n_layers: int) -> dict[str, Column]:
    """Schema of the token rows that an ablation keeps."""
    return (
        HEAD
        | PLACE
        | {
            "document": Column(pl.Int32, "index", "document of the correct next token"),
            "selected": Column(pl.Boolean, "", "among the head's top tokens by clean direct effect"),
            "control": Column(pl.Boolean, "", "in the uniform control sample"),
            "logit": Column(pl.Float32, "logits", "clean logit of the correct next token, centred over the vocabulary"),
            "ablated_logit": Column(pl.Float32, "logits", "the same in the ablated run"),
            "scale": Column(pl.Float32, "ratio", "clean scale of the final norm"),
            "ablated_scale": Column(pl.Float32, "ratio", "the same in the ablated run"),
            "own_scale": Column(pl.Float32, "ratio", "the same if only the head's own output changed"),
        }
        | EFFECTS
        | by_layer(n_layers)
    )


def document_sums(n_layers: int) -> dict[str, Column]:
    """Schema of the running sums by head and document: over all tokens, or control tokens in selected mode."""
    summed = {
        name: Column(pl.Float64, c.unit, f"sum over tokens: {c.meaning}") for name, c in (EFFECTS | CLIPPED).items()
    }
    layered = {
        name: Column(pl.Array(pl.Float64, n_layers), c.unit, f"sum over tokens: {c.meaning}")
        for name, c in by_layer(n_layers).items()
    }
    key = HEAD | {"document": Column(pl.Int32, "index", "document of the correct next token")}
    return key | {"n": Column(pl.Int64, "tokens", "tokens summed")} | summed | layered


PARTNERS = (
    HEAD
    | PLACE
    | {
        "document": Column(pl.Int32, "index", "document of the correct next token"),
        "selected": Column(pl.Boolean, "", "among the head's top tokens by clean direct effect"),
        "partner": Column(pl.Int16, "index", "which of the rows that replace this one; 0 is `source` of rows.parquet"),
    }
    | {name: EFFECTS[name] for name in ("direct_effect", "delta_logit", "self_repair")}
)
