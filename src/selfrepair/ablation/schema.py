"""Columns of the raw tables: the clean pass, ablated tokens and their sums, single neurons, interventions."""

import polars as pl

from selfrepair.core.tables import Column
from selfrepair.tokens.schema import PLACE

HEAD = {
    "layer": Column(pl.Int16, "index", "layer of the head, from 0"),
    "head": Column(
        pl.Int16,
        "index",
        "head within its layer, from 0; where units are ablated -1 for the layer's attention, -2 for its MLP, and "
        "from -3 down for the entries of `ablation.units`",
    ),
}
CLEAN_TOKENS = PLACE | {
    "document": Column(pl.Int32, "index", "document of the correct next token"),
    "control": Column(pl.Boolean, "", "in the uniform control sample"),
    "logit": Column(pl.Float32, "logits", "clean logit of the correct next token, centred over the vocabulary"),
    "bias": Column(pl.Float32, "logits", "part of it that is the unembedding bias"),
    "scale": Column(pl.Float32, "ratio", "clean scale of the final norm"),
}
SELECTED = (
    HEAD
    | PLACE
    | {
        "rank": Column(pl.Int32, "index", "0 for the token with the head's largest direct effect"),
        "direct_effect": Column(pl.Float32, "logits", "clean direct effect of the head"),
    }
)
LENS = HEAD | {
    "sign": Column(pl.String, "", "promoted: tokens whose logits the head raises most; suppressed: lowers most"),
    "place": Column(pl.Int16, "index", "0 for the token that it raises, or lowers, most"),
    "token": Column(pl.Int32, "id", "token of the vocabulary"),
    "direct_effect": Column(
        pl.Float32, "logits", "direct effect of the head on this token's logit, mean over the head's top tokens"
    ),
}
EFFECTS = {
    "direct_effect": Column(pl.Float32, "logits", "direct effect of the head, clean pass, clean scale"),
    "ablated_direct_effect": Column(pl.Float32, "logits", "direct effect of the head, ablated pass, clean scale"),
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
            "rank": Column(
                pl.Int32,
                "index",
                "0 for the token with the head's largest clean direct effect; null beyond those that bootstrap "
                "replicates select",
            ),
            "logit": Column(pl.Float32, "logits", "clean logit of the correct next token, centred over the vocabulary"),
            "ablated_logit": Column(pl.Float32, "logits", "the same in the ablated pass"),
            "scale": Column(pl.Float32, "ratio", "clean scale of the final norm"),
            "ablated_scale": Column(pl.Float32, "ratio", "the same in the ablated pass"),
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


def hand_off(n_layers: int, n_heads: int) -> dict[str, Column]:
    """Schema of the sums of what later heads do about an ablated head, by document."""
    return HEAD | {
        "document": Column(pl.Int32, "index", "document of the correct next token"),
        "n": Column(pl.Int64, "tokens", "top tokens of the head that are summed"),
        "change": Column(
            pl.Array(pl.Float32, n_layers * n_heads),
            "logits",
            "sum over them: change of each head's direct effect, layer by layer; 0 up to the ablated head's layer",
        ),
    }


HELD = (
    HEAD
    | {
        "later_layer": Column(pl.Int16, "index", "layer of the later head that repairs this one most"),
        "later_head": Column(pl.Int16, "index", "that head"),
    }
    | PLACE
    | {
        "document": Column(pl.Int32, "index", "document of the correct next token"),
        "direct_effect": EFFECTS["direct_effect"],
        "self_repair": EFFECTS["self_repair"],
        "handed": Column(pl.Float32, "logits", "change of the later head's direct effect when the head is ablated"),
        "fall": Column(
            pl.Float32, "logits", "ablated logit minus that with the later head held at its clean output meanwhile"
        ),
        "later_direct_effect": Column(pl.Float32, "logits", "clean direct effect of the later head"),
        "later_self_repair": Column(pl.Float32, "logits", "self_repair when the later head alone is ablated"),
        "pair_self_repair": Column(pl.Float32, "logits", "self_repair when both are ablated"),
    }
)
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
LOSSES = {
    "loss": Column(pl.Float32, "nats", "clean cross-entropy of the correct next token"),
    "ablated_loss": Column(pl.Float32, "nats", "the same in the ablated pass"),
    "loss_without_repair": Column(
        pl.Float32, "nats", "the same if the head's own change were all that reached the logits, at the clean scale"
    ),
    "entropy": Column(pl.Float32, "nats", "entropy of the clean distribution over the vocabulary"),
    "ablated_entropy": Column(pl.Float32, "nats", "the same in the ablated pass"),
    "entropy_without_repair": Column(pl.Float32, "nats", "the same if the head's own change were all"),
    "kl": Column(pl.Float32, "nats", "divergence KL(clean || ablated)"),
    "kl_without_repair": Column(pl.Float32, "nats", "the same, to the distribution if the head's own change were all"),
}
LOSS_TOKENS = (
    HEAD
    | PLACE
    | {
        "document": Column(pl.Int32, "index", "document of the correct next token"),
        "selected": Column(pl.Boolean, "", "among the head's top tokens by clean direct effect"),
        "control": Column(pl.Boolean, "", "in a control sample, drawn uniformly from the measured rows"),
    }
    | LOSSES
)
THRESHOLDS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # shares of a head's tokens
RULES = {  # what a head's tokens are ranked by
    "signed": "clean direct effect of the head",
    "size": "the same without its sign",
    "random": "a draw of the head's own",
    "logit": "clean logit of the correct next token",
}
SUMMED = [
    *("direct_effect", "delta_logit", "self_repair", "repair_norm", "repair_attention", "repair_mlp"),
    *("estimate", "absolute_error"),
]
OF_ESTIMATES = {
    "estimate": Column(pl.Float32, "logits", "gradient of the logit with respect to z, times the change of z"),
    "absolute_error": Column(pl.Float32, "logits", "size of estimate minus delta_logit"),
}
ESTIMATES = HEAD | {
    "document": Column(pl.Int32, "index", "document of the correct next token"),
    "rule": Column(
        pl.String,
        "",
        "what the head's tokens in the measured rows are ranked by, largest first: "
        + "; ".join(f"{rule}: {by}" for rule, by in RULES.items()),
    ),
    "threshold": Column(
        pl.Float64,
        "ratio",
        f"smallest share of the ranked tokens that holds these, of {', '.join(map(str, THRESHOLDS))}: sums of all rows "
        "up to a threshold are of that share",
    ),
    "n": Column(pl.Int64, "tokens", "tokens summed"),
    **{
        name: Column(pl.Float64, c.unit, f"sum over tokens: {c.meaning}")
        for name, c in (EFFECTS | OF_ESTIMATES).items()
        if name in SUMMED
    },
}
MOVED_TOKENS = "all: every token of the run; top: the top tokens of the ablated head"
MOVES = HEAD | {
    "tokens": Column(pl.String, "", MOVED_TOKENS),
    "document": Column(pl.Int32, "index", "document of the correct next token"),
    "ablated_head": Column(pl.Int16, "index", "head of the layer before that is ablated: its strongest on top tokens"),
    "moved_layer_effect": Column(pl.Float64, "logits", "direct effect of the heads before: sum, mean over tokens"),
    "n": Column(pl.Int64, "tokens", "tokens summed"),
    "direct_effect": Column(pl.Float64, "logits", "sum over tokens: clean direct effect of the head"),
    "moved": Column(pl.Float64, "logits", "sum: the same where the layer before is skipped"),
    "ablated": Column(pl.Float64, "logits", "sum: the same where the head before is resample-ablated"),
    "direct_effect_squared": Column(pl.Float64, "logits^2", "sum of squares of direct_effect"),
    "moved_squared": Column(pl.Float64, "logits^2", "sum of squares of moved"),
    "direct_effect_moved": Column(pl.Float64, "logits^2", "sum of products of direct_effect and moved"),
}
ADDITIONS = (
    HEAD
    | PLACE
    | {
        "document": Column(pl.Int32, "index", "document of the correct next token"),
        "direction": Column(
            pl.String,
            "",
            "what is added to what the head's layer reads, at this position: own output, another head's of the layer, "
            "or a random direction of the own output's norm",
        ),
        "strength": Column(pl.Float32, "ratio", "factor of what is added"),
        "direct_effect": Column(pl.Float32, "logits", "clean direct effect of the head"),
        "new_direct_effect": Column(pl.Float32, "logits", "after the addition, with the clean scale"),
        "new_direct_effect_perturbed": Column(pl.Float32, "logits", "the same with the scale of the perturbed pass"),
    }
)
NORM_CHECK = {
    "model": Column(pl.String, "", "name of the model"),
    "ablation": Column(pl.String, "", "resample, zero or mean"),
    "layer": Column(pl.Int16, "index", "layer of the head"),
    "head": Column(pl.Int16, "index", "the head"),
    "n_tokens": Column(pl.Int64, "tokens", "kept tokens of the rows that were run anew"),
    "freezing": Column(
        pl.Float64, "logits", "mean effect of freezing: ablated logit minus that with the clean final scale"
    ),
    "repair_norm": Column(pl.Float64, "logits", "mean repair_norm of the same tokens, as measured in the sweep"),
    "largest_deviation": Column(pl.Float64, "logits", "largest difference of the two on any token"),
    "largest_logit": Column(pl.Float64, "logits", "largest clean logit of these rows, without its sign"),
}
DISTRIBUTION = Column(pl.String, "", "kind of text (prose, code, text) or of generated prompts")
DISTRIBUTION_TOKENS = {
    "distribution": DISTRIBUTION,
    "tokens": Column(
        pl.String,
        "",
        "top: the head's top tokens by clean direct effect within the distribution; answers: those of the prompts; "
        "difference: the same, with the logit of the answer minus that of its alternative in place of the logit",
    ),
}
DISTRIBUTION_SUMS = (
    DISTRIBUTION_TOKENS
    | {
        "n_layers": Column(pl.Int16, "layers", "layers of the model"),
    }
    | HEAD
    | {
        "document": Column(pl.Int32, "index", "document of the correct next token, or prompt"),
        "n": Column(pl.Int64, "tokens", "tokens summed; may be none"),
    }
    | {
        name: Column(pl.Float64, column.unit, f"sum over tokens: {column.meaning}")
        for name, column in EFFECTS.items()
        if name != "ablated_direct_effect"
    }
    | {
        "positive": Column(pl.Int64, "tokens", "tokens with a positive direct effect"),
        "overcorrected": Column(pl.Int64, "tokens", "of these, tokens on which the ablated logit is the higher one"),
    }
)


def hand_off_elsewhere(n_layers: int, n_heads: int) -> dict[str, Column]:
    """`hand_off` on several distributions: on the answers where there are any, else on top tokens."""
    return DISTRIBUTION_TOKENS | hand_off(n_layers, n_heads)


ANSWERS = {
    "distribution": DISTRIBUTION,
    "document": Column(pl.Int32, "index", "prompt"),
    "pos": PLACE["pos"],
    "first": Column(pl.Boolean, "", "whether the clean model's largest logit is that of the answer"),
    "preferred": Column(pl.Boolean, "", "whether it is larger than the alternative's; null where there is none"),
}
