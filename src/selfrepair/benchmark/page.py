"""The benchmark as a page of Markdown."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from selfrepair.benchmark.schema import QUANTITIES, TABLES, read_tables
from selfrepair.core.files import write_text
from selfrepair.core.tables import Column

LABELS = {
    "sweep": "one sweep",
    "hooks": "leanest hooks, one patched pass per head",
    "authors": "the authors' procedure, four forward passes per head",
}
ACCURATE = 0.01  # largest share of the effect that an error of self-repair may be for a precision to be recommended
AXES = {"layers": "Layers", "heads": "Heads of a layer", "tokens": "Tokens", "row_length": "Length of a row"}
Format = Callable[[Any], str]
Columns = dict[str, tuple[str, Format]]  # title and format of each column


def write_page(tables: Path, output: Path) -> None:
    """Write the page of the benchmark from its CSV files.

    Args:
        tables: folder of the CSV files.
        output: Markdown file to write.
    """
    write_text(output, page(read_tables(tables)))


def page(tables: dict[str, pl.DataFrame]) -> str:
    """Text of docs/benchmark.md."""
    methods, growth, costs = tables["methods"], tables["growth"], tables["costs"]
    sections = [
        "# What the measurement costs",
        "Made by `snakemake --cores all benchmark` from the tables in [`benchmark/`](benchmark/); it needs the "
        "machine to itself, and takes about three quarters of an hour on two cores.",
        "## Beside patching one head at a time",
        _methods(methods) + "\n" + _setting(tables),
        "All methods run in one process on the same tokens and threads, in rounds of one after the other; times are "
        "medians over the rounds. The sweep measures every head, the other methods some heads spread over the layers, "
        "and their clean pass counts for its share. `peak` is the rate of `torch.mm` at the shapes of a layer's four "
        "linear maps, taken between the runs; the sweep's rate is that of its minimal arithmetic "
        "(`src/selfrepair/benchmark/flops.py`) by its time. Peak memory is of the measurement in a process of its own, "
        "libraries and weights included.",
        _rates(methods.filter(method="sweep")),
        "Largest differences from the sweep, in logits:",
        _differences(methods.filter(pl.col("method") != "sweep")),
        "## Only selected tokens",
        "`measure: selected` ablates each head only in rows that hold one of its top tokens, or one that bootstrap "
        "replicates select, as far as the last of them, and in the rows of the control sample. On the first shard of "
        "the default run, both modes in turn:",
        _selected(tables["selected"]),
        "## Later heads as responders",
        "Which later heads respond is told by the same sweep: as sums over each head's top tokens, as in every run, or "
        'for every token (`responders="heads"`). All heads, each way in turn, by the time of the plain sweep:',
        _later_heads(tables["later_heads"]),
        "## How the cost grows",
        "The prediction is the time of the base, where the two are equal, by the minimal arithmetic. Tokens are "
        "measured batch by batch, so memory does not grow with them.",
        *(f"### {title}\n\n{_growth(growth, axis)}" for axis, title in AXES.items()),
        "## Precision",
        "Errors of single tokens against float64, with and beside the size of the effect (root mean squares over all "
        "heads and tokens), and of the means of heads. On a CPU TF32 and bfloat16 are rounded to and multiplied as "
        "float32. The shipped models ran on held-out text, the model with random weights on random tokens.",
        _precision(tables["precision"]),
        recommendation(tables["precision"]),
        "## Memory of large models",
        "A Llama with random weights in shards is folded to disk and read back, each in a process of its own. Folding "
        "holds a group of layers, loading the folded weights; the base is Python with its libraries.",
        _loading(tables["loading"]),
        "## Training",
        "The base of the controlled family (`config/studies/architecture.yaml`) is trained by the package's own step, "
        "here beside a plain loop over Hugging Face's GPT-2 of the same shape: forward, backward, clipping and AdamW "
        "on the same rows, in turn.",
        _training(tables["training"]),
        "## How often intervals hold the truth",
        "Texts whose documents are drawn from a population of documents that is known completely, and so is the truth; "
        "shares of texts whose 95 % interval holds it, of statistics of single heads on their top tokens. Synthetic "
        "documents differ in length and in what effects scale with; those of the corpus of Python's standard library "
        "were measured with tiny-llama. *Fixed*: percentiles of replicates that all take the text's top tokens; "
        "*percentiles*: of replicates that select their own; *reported*: the intervals of this package "
        "(`src/selfrepair/analysis/bootstrap.py`), in brackets of the head where they hold it least often. The table "
        "in [`benchmark/`](benchmark/coverage.csv) has layers too, and on which side the truth was missed.",
        _coverage(tables["coverage"]),
        "## One million tokens, every head",
        "Extrapolated: the minimal arithmetic of the model at the slowest rate of a sweep above, float32, rows of 128 "
        "tokens. `streams` are the residual streams of all runs of one row. H100 columns are estimates at an assumed "
        "rate, not measured; what was measured on a GPU is on [a page of its own](benchmark/gpu.md).",
        _costs(costs),
        "## Columns",
        *(f"### `{name}.csv`\n\n{_columns(schema)}" for name, schema in TABLES.items()),
    ]
    return "\n\n".join(section.rstrip() for section in sections) + "\n"


def _methods(methods: pl.DataFrame) -> str:
    differences = pl.max_horizontal(f"difference_{quantity}" for quantity in QUANTITIES)
    return _markdown(
        methods.with_columns(pl.col("method").replace_strict(LABELS), difference=differences),
        {
            "model": ("model size", str),
            "method": ("method", str),
            "us": ("µs per (token, head)", _number),
            "ratio": ("ratio", _number),
            "peak_fraction": ("of peak", _percent),
            "memory_mb": ("peak memory, MB", _whole),
            "difference": ("largest difference, logits", _tiny),
        },
    )


def _coverage(coverage: pl.DataFrame) -> str:
    index = ["population", "documents", "effective", "statistic"]
    of_heads = coverage.filter(of="heads")
    wide = of_heads.pivot("interval", index=index, values=["coverage", "worst"], maintain_order=True)
    shares = {"fixed, percentiles": "fixed", "reselected, percentiles": "percentiles", "as reported": "reported"}
    columns: Columns = {"population": ("documents of", str), "documents": ("number", str)}
    columns |= {"effective": ("worth", _whole), "statistic": ("statistic", str)}
    columns |= {f"coverage_{name}": (label, _percent) for name, label in shares.items()}
    return _markdown(wide, columns | {"worst_as reported": ("(least)", _percent)})


def _setting(tables: dict[str, pl.DataFrame]) -> str:
    machine, methods = tables["machine"].row(0, named=True), tables["methods"].row(0, named=True)
    return (
        f"Random weights, {methods['rows']} rows of {methods['row_length']} tokens, float32. {machine['processor']} "
        f"({machine['instructions']}), cores: {machine['cores']},\nthreads: {machine['threads']}; torch "
        f"{machine['torch']}, transformer_lens {machine['transformer_lens']}."
    )


def _rates(sweeps: pl.DataFrame) -> str:
    return _markdown(
        sweeps,
        {
            "model": ("model size", str),
            "us": ("µs", _number),
            "us_low": ("shortest", _number),
            "us_high": ("longest", _number),
            "mflop": ("MFLOP per (token, head)", _number),
            "gflops": ("GFLOP/s", _whole),
            "mm_gflops": ("peak, GFLOP/s", _whole),
            "largest_effect": ("largest change of a logit", _number),
        },
    )


def _differences(methods: pl.DataFrame) -> str:
    named = methods.with_columns(pl.col("method").replace_strict(LABELS))
    columns: Columns = {"model": ("model size", str), "method": ("method", str)}
    columns |= {f"difference_{quantity}": (f"`{quantity}`", _tiny) for quantity in QUANTITIES}
    return _markdown(named, columns)


def recommendation(precision: pl.DataFrame) -> str:
    """Which precision to choose on which device, by the errors of self-repair."""
    errors = precision.filter(quantity="self_repair").group_by("precision").agg(pl.max("error_share"))
    largest = dict(errors.iter_rows())
    accurate = [name for name in ("bfloat16", "tf32", "float32") if largest[name] <= ACCURATE]
    shares = {name: f"{100 * share:.2g} %" for name, share in largest.items()}
    return (
        "Recommended is the fastest format whose error of self-repair is at most "
        f"{100 * ACCURATE:.0f} % of the effect on every model: on a GPU `precision: {accurate[0]}` (largest error "
        f"{shares[accurate[0]]}); on a CPU, which has no faster one, `precision: float32` ({shares['float32']}). "
        "float32 is the reference, and what runs unless the configuration says otherwise; what was used is recorded in "
        "`report/run.json`."
    )


def _selected(selected: pl.DataFrame) -> str:
    return _markdown(
        selected,
        {
            "model": ("model", str),
            "tokens": ("tokens", _whole),
            "control_tokens": ("of them control", _whole),
            "work": ("ablated tokens, of all", _percent),
            "time": ("time, of all", _percent),
            "all_seconds": ("all, s", _number),
            "selected_seconds": ("selected, s", _number),
            "largest_difference": ("largest difference, logits", _tiny),
        },
    )


def _later_heads(later_heads: pl.DataFrame) -> str:
    return _markdown(
        later_heads,
        {
            "model": ("model", str),
            "tokens": ("ablated tokens", _whole),
            "seconds": ("plain sweep, s", _number),
            "top": ("sums over top tokens", _percent),
            "every": ("every token", _percent),
        },
    )


def _precision(precision: pl.DataFrame) -> str:
    return _markdown(
        precision,
        {
            "model": ("model", str),
            "weights": ("weights", str),
            "precision": ("precision", str),
            "quantity": ("quantity", lambda name: f"`{name}`"),
            "rms_effect": ("effect, logits", _number),
            "rms_error": ("error, logits", _tiny),
            "error_share": ("of the effect", _tiny),
            "mean_error_share": ("of means of heads", _tiny),
            "same_top_tokens": ("same top tokens", _percent),
        },
    )


def _loading(loading: pl.DataFrame) -> str:
    return _markdown(
        loading,
        {
            "what": ("what", str),
            "weights_mb": ("weights, MB", _whole),
            "base_mb": ("base, MB", _whole),
            "peak_mb": ("peak, MB", _whole),
            "seconds": ("s", _number),
        },
    )


def _training(training: pl.DataFrame) -> str:
    return _markdown(
        training,
        {
            "parameters": ("parameters", _whole),
            "threads": ("threads", str),
            "plain_rate": ("plain loop, tokens/s", _whole),
            "ours_rate": ("the package, tokens/s", _whole),
            "ratio": ("ratio", _number),
        },
    )


def _growth(growth: pl.DataFrame, axis: str) -> str:
    return _markdown(
        growth.filter(pl.col("axis").is_in(["base", axis])).sort(axis),
        {
            "layers": ("layers", str),
            "heads": ("heads", str),
            "tokens": ("tokens", _whole),
            "row_length": ("row length", str),
            "us": ("µs per (token, head)", _number),
            "predicted_us": ("predicted", _number),
            "gflops": ("GFLOP/s", _whole),
            "seconds": ("s in all", _number),
            "memory_mb": ("peak memory, MB", _whole),
        },
    )


def _costs(costs: pl.DataFrame) -> str:
    return _markdown(
        costs,
        {
            "model": ("model", str),
            "heads": ("heads", _whole),
            "mflop": ("MFLOP per (token, head)", _number),
            "pflop": ("PFLOP", _number),
            "hours": ("hours here, extrapolated", _number),
            "weights_gb": ("weights, GB", _number),
            "stream_gb": ("streams, GB", _number),
            "h100_float32_hours": ("H100 float32, hours, estimate", _number),
            "h100_tf32_hours": ("H100 TF32, hours, estimate", _number),
        },
    )


def _columns(schema: dict[str, Column]) -> str:
    lines = [f"| `{name}` | {column.unit} | {column.meaning} |\n" for name, column in schema.items()]
    return "| column | unit | meaning |\n|---|---|---|\n" + "".join(lines)


def _markdown(table: pl.DataFrame, columns: Columns) -> str:
    """A Markdown table of some columns, each with its title and format; numbers are set flush right."""
    header = "|".join(f" {title} " for title, _ in columns.values())
    rule = "|".join("---:" if table.schema[name].is_numeric() else "---" for name in columns)
    rows = (
        "|".join(f" {shown(row[name])} " for name, (_, shown) in columns.items()) for row in table.iter_rows(named=True)
    )
    return "".join(f"|{line}|\n" for line in (header, rule, *rows))


def _number(value: float | None) -> str:
    """Three significant digits, without an exponent."""
    if value is None:
        return ""
    digits = next((d for d, limit in enumerate((99.95, 9.995, 0.9995)) if abs(value) >= limit), 3)
    return f"{value:,.{digits}f}"


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _tiny(value: float | None) -> str:
    return "" if value is None else f"{value:.0e}".replace("e-0", "e-")
