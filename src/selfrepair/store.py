"""What results look like on disk: Parquet tables with a documented schema, written whole or not at all."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

MADE_WITH = "selfrepair"  # key of a file's metadata


@dataclass(frozen=True)
class Column:
    """A column of a result table: its type, unit and meaning."""

    dtype: pl.DataType | type[pl.DataType]
    unit: str
    meaning: str


HEAD = {
    "layer": Column(pl.Int16, "index", "layer of the head, from 0"),
    "head": Column(pl.Int16, "index", "head within its layer, from 0"),
}
PLACE = {
    "row": Column(pl.Int32, "index", "row of tokens"),
    "pos": Column(pl.Int16, "index", "position that predicts; pos + 1 holds the correct next token"),
}
TOKENS = {
    "row": Column(pl.Int32, "index", "row of tokens"),
    "pos": Column(pl.Int32, "index", "position in the row; 0 is the beginning-of-text token"),
    "token": Column(pl.Int32, "id", "token of the model's tokenizer"),
    "document": Column(pl.Int32, "index", "document it comes from; null at position 0"),
    "offset": Column(pl.Int32, "tokens", "place within its document; the separator is its last"),
}
ROWS = {
    "row": Column(pl.Int32, "index", "row of tokens"),
    "source": Column(pl.Int32, "index", "row whose activations replace this one's in resample ablation"),
}
DOCUMENTS = {
    "document": Column(pl.Int32, "index", "document"),
    "name": Column(pl.String, "", "its name in the corpus"),
    "kind": Column(pl.String, "", "prose, code, or text where the corpus does not say"),
}
CLEAN_TOKENS = PLACE | {
    "document": Column(pl.Int32, "index", "document of the correct next token"),
    "control": Column(pl.Boolean, "", "in the uniform control sample"),
    "logit": Column(pl.Float32, "logits", "clean logit of the correct next token, centred over the vocabulary"),
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


STATISTICS = {
    "model": Column(pl.String, "", "name of the model"),
    "ablation": Column(pl.String, "", "resample, zero or mean"),
    "n_layers": Column(pl.Int16, "layers", "layers of the model"),
    "layer": Column(pl.Int16, "index", "layer, from 0"),
    "head": Column(pl.Int16, "index", "head, from 0; null in a row about a whole layer"),
    "tokens": Column(
        pl.String,
        "",
        "top: the head's top tokens by clean direct effect; all: every token of the run, or those of the control "
        "sample's rows where only selected tokens are measured",
    ),
    "quantity": Column(pl.String, "", "a column of the token rows"),
    "statistic": Column(
        pl.String,
        "",
        "mean; median; share: sum divided by the sum of direct effects; clipped_share: mean over tokens of the share "
        "clipped to [0, 1]",
    ),
    "value": Column(pl.Float64, "logits or ratio", "the statistic; shares are ratios, the rest logits"),
    "low": Column(pl.Float64, "as value", "lower end of the bootstrap interval, clustered by document"),
    "high": Column(pl.Float64, "as value", "upper end of it"),
    "n_tokens": Column(
        pl.Int64, "tokens", "tokens behind the value, per head; a median over all tokens is of the control sample"
    ),
    "n_documents": Column(pl.Int64, "documents", "documents behind it"),
}
RESPONDERS = {
    "model": Column(pl.String, "", "name of the model"),
    "ablation": Column(pl.String, "", "resample, zero or mean"),
    "layer": Column(pl.Int16, "index", "layer of the ablated head"),
    "head": Column(pl.Int16, "index", "ablated head"),
    "tokens": Column(pl.String, "", "top or all"),
    "part": Column(pl.String, "", "attention or mlp"),
    "later_layer": Column(pl.Int16, "index", "layer that responds"),
    "value": Column(pl.Float64, "logits", "mean change of its direct effect"),
}


def frame(columns: dict[str, object], schema: dict[str, Column]) -> pl.DataFrame:
    """Build a table with exactly the schema's columns and types, in its order.

    Raises:
        ValueError: a column is missing or not in the schema.
    """
    if set(columns) != set(schema):
        raise ValueError(f"columns {sorted(set(columns) ^ set(schema))} are missing or not in the schema")
    return pl.DataFrame({name: columns[name] for name in schema}, schema={n: c.dtype for n, c in schema.items()})


def empty(schema: dict[str, Column]) -> pl.DataFrame:
    """A table of the schema without rows."""
    return pl.DataFrame(schema={name: column.dtype for name, column in schema.items()})


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file and rename it, so that `path` is complete or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        write(temporary)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_parquet(table: pl.DataFrame, path: Path, made_with: dict[str, str] | None = None) -> None:
    """Write a Parquet file, complete or not at all; what it was made with goes into its metadata."""
    metadata = None if made_with is None else {MADE_WITH: json.dumps(made_with)}
    write_whole(path, lambda temporary: table.write_parquet(temporary, compression="zstd", metadata=metadata))


def read_made_with(path: Path) -> dict[str, str]:
    """What a file says it was made with."""
    return json.loads(pl.read_parquet_metadata(path)[MADE_WITH])


def tables(n_layers: int) -> dict[str, dict[str, Column]]:
    """Schema of every result table, by its path within a run's folder."""
    return {
        "tokens/<model>/tokens.parquet": TOKENS,
        "tokens/<model>/rows.parquet": ROWS,
        "tokens/<model>/documents.parquet": DOCUMENTS,
        "ablation/<model>/clean/tokens.parquet": CLEAN_TOKENS,
        "ablation/<model>/clean/selected.parquet": SELECTED,
        "ablation/<model>/<ablation>/tokens-<shard>.parquet": ablated_tokens(n_layers),
        "ablation/<model>/<ablation>/sums-<shard>.parquet": document_sums(n_layers),
        "analysis/<model>/<ablation>/heads.parquet": STATISTICS,
        "analysis/<model>/<ablation>/layers.parquet": STATISTICS,
        "analysis/<model>/<ablation>/responders.parquet": RESPONDERS,
    }
