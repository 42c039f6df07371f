"""Columns of the benchmark's tables."""

from pathlib import Path

import polars as pl

from selfrepair.core.tables import Column

QUANTITIES = (
    "direct_effect",
    "ablated_direct_effect",
    "delta_logit",
    "self_repair",
    "repair_norm",
    "repair_attention",
    "repair_mlp",
)
DIGITS = 4  # significant ones, in CSV files

MACHINE = {
    "processor": Column(pl.String, "", "name of the processor"),
    "instructions": Column(pl.String, "", "vector instructions that torch uses"),
    "cores": Column(pl.Int64, "cores", "of the machine"),
    "threads": Column(pl.Int64, "threads", "that torch used"),
    "system": Column(pl.String, "", "operating system"),
    "python": Column(pl.String, "", "version of Python"),
    "torch": Column(pl.String, "", "version of torch"),
    "transformers": Column(pl.String, "", "version of transformers"),
    "transformer_lens": Column(pl.String, "", "version of transformer_lens"),
}
METHODS = {
    "model": Column(pl.String, "", "whose size the model with random weights has"),
    "method": Column(pl.String, "", "sweep, hooks or authors"),
    "rows": Column(pl.Int64, "rows", "of tokens, in one batch"),
    "row_length": Column(pl.Int64, "tokens", "of a row; all but the last are scored"),
    "heads": Column(pl.Int64, "heads", "ablated in a round"),
    "us": Column(pl.Float64, "µs", "time per (scored token, head), median over the rounds"),
    "us_low": Column(pl.Float64, "µs", "shortest of the rounds"),
    "us_high": Column(pl.Float64, "µs", "longest of the rounds"),
    "ratio": Column(pl.Float64, "ratio", "time in times of the sweep"),
    "mflop": Column(pl.Float64, "MFLOP", "minimal arithmetic of the sweep per (token, head)"),
    "gflops": Column(pl.Float64, "GFLOP/s", "minimal arithmetic by time"),
    "mm_gflops": Column(pl.Float64, "GFLOP/s", "of torch.mm at the shapes of the linear maps, taken between the runs"),
    "peak_fraction": Column(pl.Float64, "ratio", "gflops by mm_gflops"),
    "memory_mb": Column(pl.Float64, "MB", "peak resident memory of the measurement, libraries and weights included"),
    "largest_effect": Column(pl.Float64, "logits", "largest change of a logit among the heads compared"),
} | {
    f"difference_{quantity}": Column(pl.Float64, "logits", f"largest difference of {quantity} from the sweep's")
    for quantity in QUANTITIES
}
GROWTH = {
    "axis": Column(pl.String, "", "what grows: layers, heads, tokens or row_length"),
    "layers": Column(pl.Int64, "layers", "of the model"),
    "heads": Column(pl.Int64, "heads", "of a layer"),
    "tokens": Column(pl.Int64, "tokens", "scored in all"),
    "row_length": Column(pl.Int64, "tokens", "of a row"),
    "us": Column(pl.Float64, "µs", "time per (token, head), median over the rounds"),
    "predicted_us": Column(pl.Float64, "µs", "the base's time, by arithmetic"),
    "mflop": Column(pl.Float64, "MFLOP", "minimal arithmetic per (token, head)"),
    "gflops": Column(pl.Float64, "GFLOP/s", "minimal arithmetic by time"),
    "seconds": Column(pl.Float64, "s", "time of the whole measurement"),
    "memory_mb": Column(pl.Float64, "MB", "peak resident memory of the measurement, libraries and weights included"),
}
COSTS = {
    "model": Column(pl.String, "", "model of the paper"),
    "heads": Column(pl.Int64, "heads", "of all layers"),
    "mflop": Column(pl.Float64, "MFLOP", "minimal arithmetic per (token, head)"),
    "pflop": Column(pl.Float64, "PFLOP", "minimal arithmetic of one million tokens, all heads"),
    "hours": Column(pl.Float64, "hours", "on the benchmark's machine, extrapolated from the sweep's slowest GFLOP/s"),
    "weights_gb": Column(pl.Float64, "GB", "folded weights, float32"),
    "stream_gb": Column(pl.Float64, "GB", "residual streams of all runs of one row of tokens"),
    "h100_float32_hours": Column(pl.Float64, "hours", "on an H100 at 40 TFLOP/s: an estimate, not measured"),
    "h100_tf32_hours": Column(pl.Float64, "hours", "on an H100 at 200 TFLOP/s: an estimate, not measured"),
}
PRECISION = {
    "model": Column(pl.String, "", "shipped model, or whose size the model with random weights has"),
    "weights": Column(pl.String, "", "trained or random"),
    "precision": Column(pl.String, "", "number format of the matrix products"),
    "quantity": Column(pl.String, "", "what is compared with the same in float64, over all heads and tokens"),
    "tokens": Column(pl.Int64, "tokens", "scored, for each head"),
    "rms_effect": Column(pl.Float64, "logits", "root mean square of the quantity itself"),
    "rms_error": Column(pl.Float64, "logits", "root mean square of the error of a token"),
    "error_share": Column(pl.Float64, "ratio", "rms_error by rms_effect"),
    "largest_error": Column(pl.Float64, "logits", "largest error of a token"),
    "mean_error_share": Column(pl.Float64, "ratio", "the same ratio for the means of heads over tokens"),
    "same_top_tokens": Column(pl.Float64, "ratio", "share of the heads' top 2 % tokens that are the same"),
}
SELECTED = {
    "model": Column(pl.String, "", "shipped model"),
    "tokens": Column(pl.Int64, "tokens", "scored in the shard that was measured"),
    "control_tokens": Column(pl.Int64, "tokens", "of the control sample, in it"),
    "work": Column(pl.Float64, "ratio", "ablated tokens in the mode `selected`, by those in the mode `all`"),
    "all_seconds": Column(pl.Float64, "s", "time of the mode `all`, median over the rounds"),
    "selected_seconds": Column(pl.Float64, "s", "time of the mode `selected`, median over the rounds"),
    "time": Column(pl.Float64, "ratio", "selected_seconds by all_seconds"),
    "largest_difference": Column(pl.Float64, "logits", "largest difference between the token rows of the two modes"),
}
LATER_HEADS = {
    "model": Column(pl.String, "", "shipped model"),
    "tokens": Column(pl.Int64, "tokens", "ablated tokens of the sweep"),
    "seconds": Column(pl.Float64, "s", "time of the plain sweep, median over the rounds"),
    "top": Column(pl.Float64, "ratio", "time with sums over top tokens, as in every run, by that of the plain one"),
    "every": Column(pl.Float64, "ratio", "time with every later head's change at every token, by the plain one"),
}
TRAINING = {
    "parameters": Column(pl.Int64, "weights", "of the trained model, the base of the controlled family"),
    "threads": Column(pl.Int16, "threads", "of the CPU"),
    "plain_rate": Column(pl.Float64, "tokens/s", "a plain loop over Hugging Face's GPT-2 of the same shape"),
    "ours_rate": Column(pl.Float64, "tokens/s", "the package's step"),
    "ratio": Column(pl.Float64, "ratio", "the second by the first, in the same run"),
}
LOADING = {
    "what": Column(pl.String, "", "fold to disk or load from it, and the precision in which weights are kept"),
    "weights_mb": Column(pl.Float64, "MB", "folded model on disk"),
    "base_mb": Column(pl.Float64, "MB", "resident before: Python and its libraries"),
    "peak_mb": Column(pl.Float64, "MB", "peak resident memory, base included"),
    "seconds": Column(pl.Float64, "s", "time"),
}
COVERAGE = {
    "population": Column(pl.String, "", "where documents are drawn from, with replacement"),
    "documents": Column(pl.Int64, "documents", "of a text"),
    "effective": Column(pl.Float64, "documents", "Kish's effective number behind the top tokens of a head, mean"),
    "texts": Column(pl.Int64, "texts", "drawn"),
    "of": Column(pl.String, "", "what a statistic is of: heads or layers, on top tokens"),
    "statistic": Column(pl.String, "", "what the interval is of; tokens overcorrected is a share of tokens"),
    "interval": Column(
        pl.String,
        "",
        "as reported; or plain percentiles of replicates that select their own top tokens (reselected), or all have "
        "those of the text (fixed)",
    ),
    "coverage": Column(
        pl.Float64, "ratio", "share of texts whose 95 % interval holds the truth, mean of heads or layers"
    ),
    "worst": Column(pl.Float64, "ratio", "the same of the head or layer where it is smallest"),
    "below": Column(pl.Float64, "ratio", "share of texts where the truth lies below the interval, mean"),
    "above": Column(pl.Float64, "ratio", "share of texts where it lies above, mean"),
}
TABLES = {
    "machine": MACHINE,
    "methods": METHODS,
    "selected": SELECTED,
    "later_heads": LATER_HEADS,
    "growth": GROWTH,
    "precision": PRECISION,
    "loading": LOADING,
    "training": TRAINING,
    "costs": COSTS,
    "coverage": COVERAGE,
}


def write_table(table: pl.DataFrame, path: Path) -> None:
    """Write a CSV file whose floats have `DIGITS` significant digits."""
    table.with_columns(pl.col(pl.Float64).round_sig_figs(DIGITS)).write_csv(path)


def read_tables(folder: Path) -> dict[str, pl.DataFrame]:
    """Read the tables of `TABLES` from their CSV files."""
    return {
        name: pl.read_csv(folder / f"{name}.csv", schema={column: c.dtype for column, c in schema.items()})
        for name, schema in TABLES.items()
    }
