"""The models of a run, one row each: size, quality, and what was measured on them."""

import json
from pathlib import Path
from typing import Any

import polars as pl

from selfrepair.analysis.wide import wide
from selfrepair.core.tables import Column, frame, write_csv

LARGE_EFFECT = 1.0  # logits
MODELS = {
    "model": Column(pl.String, "", "name of the model"),
    "family": Column(pl.String, "", "its Hugging Face model_type"),
    "n_layers": Column(pl.Int64, "layers", "number of layers"),
    "n_heads": Column(pl.Int64, "heads", "attention heads per layer"),
    "d_model": Column(pl.Int64, "dimensions", "width of the residual stream"),
    "d_mlp": Column(pl.Int64, "neurons", "neurons per layer"),
    "parallel": Column(
        pl.Boolean, "", "whether the MLP of a block reads the block's input, beside attention, and not its output"
    ),
    "d_vocab": Column(pl.Int64, "tokens", "size of the vocabulary"),
    "parameters": Column(pl.Int64, "parameters", "number of parameters"),
    "held_out_loss": Column(pl.Float64, "nats per token", "loss on held-out documents, where known"),
    "bigram_loss": Column(pl.Float64, "nats per token", "loss of a bigram model on the same, where known"),
    "tokens": Column(
        pl.Int64, "tokens", "tokens behind statistics of all tokens: the run's, or those of the control sample's rows"
    ),
    "documents": Column(pl.Int64, "documents", "documents they come from"),
    "effective_documents": Column(pl.Int64, "documents", "Kish's effective number of these documents"),
    "top_tokens": Column(pl.Int64, "tokens", "top tokens by direct effect, per head"),
    "top_effective_documents": Column(
        pl.Int64, "documents", "effective number of documents behind a head's top tokens, mean over heads"
    ),
    "heads_above_1": Column(
        pl.Int64, "heads", "heads whose mean direct effect on their top tokens is more than 1 logit"
    ),
    "load_error": Column(
        pl.Float64, "ratio", "log-probability error against Hugging Face, relative to the largest centred logit"
    ),
}


def overview_of_files(facts: list[Path], heads: list[Path], summaries: list[str]) -> pl.DataFrame:
    """`overview` as it is written.

    Args:
        facts: model.json of each model.
        heads: heads.parquet of each model.
        summaries: training.json of models whose training is known, as name=file.
    """
    named = dict(pair.split("=", 1) for pair in summaries)
    table = overview(
        [json.loads(path.read_text()) for path in facts],
        {of_model["model"][0]: of_model for of_model in map(pl.read_parquet, heads)},
        {name: json.loads(Path(path).read_text()) for name, path in named.items()},
    )
    return printable(table)


def overview(
    facts: list[dict[str, Any]], heads: dict[str, pl.DataFrame], summaries: dict[str, dict[str, Any]]
) -> pl.DataFrame:
    """Build the table of models (`MODELS`), in the order of `facts`.

    Args:
        facts: one per model, with its `name`, sizes and `load_error`.
        heads: per-head `STATISTICS` by model.
        summaries: `training.json` by model, for models whose training is known.

    Raises:
        ValueError: a model has no table of heads.
    """
    missing = [fact["name"] for fact in facts if fact["name"] not in heads]
    if missing:
        raise ValueError(f"no table of heads for {', '.join(missing)}; tables given are of {', '.join(heads)}")
    rows = [_row(fact, heads[fact["name"]], summaries.get(fact["name"], {})) for fact in facts]
    return frame({name: [row[name] for row in rows] for name in MODELS}, MODELS)


def _row(fact: dict[str, Any], heads: pl.DataFrame, training: dict[str, Any]) -> dict[str, Any]:
    top, everything = wide(heads, "top"), wide(heads, "all")
    measured = {
        "model": fact["name"],
        "held_out_loss": training.get("held_out_loss"),
        "bigram_loss": training.get("held_out_loss_bigram"),
        "tokens": everything["n_tokens"].max(),
        "documents": everything["n_documents"].max(),
        "effective_documents": round(everything["n_effective"].max()),
        "top_tokens": top["n_tokens"].max(),
        "top_effective_documents": round(top["n_effective"].mean()),
        "heads_above_1": int((top["mean_direct_effect"] > LARGE_EFFECT).sum()),
    }
    return {name: measured[name] if name in measured else fact[name] for name in MODELS}


def printable(table: pl.DataFrame) -> pl.DataFrame:
    """`MODELS` as it is written: the load error as text with two significant digits."""
    return table.with_columns(pl.col("load_error").map_elements(lambda value: f"{value:.1e}", return_dtype=pl.String))


def write_models(table: pl.DataFrame, path: Path) -> None:
    """Write `models.csv`."""
    write_csv(printable(table), path)


def read_models(path: Path) -> pl.DataFrame:
    """Read `models.csv`."""
    return pl.read_csv(path, schema={name: column.dtype for name, column in MODELS.items()})
