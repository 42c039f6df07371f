"""The tables of a run on the model of `models.known_answer` beside what must be in them, and the page that shows it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float

from selfrepair.ablation.schema import EFFECTS
from selfrepair.analysis.known_answer import PENCIL, SCALES, derive, pencil, pencil_tokens
from selfrepair.analysis.schema_beyond import KNOWN_ANSWER
from selfrepair.core.files import write_text
from selfrepair.core.tables import frame, write_table
from selfrepair.models.known_answer import NEURON
from selfrepair.report.readme import with_block
from selfrepair.tokens.rows import token_matrix

TOLERANCE = 1e-5  # logits; float32 differs by some 1e-6
QUANTITIES = ("logit", "ablated_logit", *SCALES, *EFFECTS)
SHOWN = ("direct_effect", "delta_logit", "self_repair", "repair_attention", "repair_mlp", "repair_norm")
NAMES = {
    (0, 0): "L0H0, nothing repairs it",
    (0, 1): "L0H1, has a backup",
    (0, 2): "L0H2, is erased",
    (0, 3): "L0H3, is built upon",
    (0, 4): "L0H4, erased by a neuron",
    (1, 5): "L1H5, fills the stream",
}
Numbers = Float[np.ndarray, " token"]
Compared = tuple[tuple[int, int], str, str, Numbers, Numbers]  # head, tokens, quantity, expected, measured


class KnownAnswerError(ArithmeticError):
    """A table of the run differs from what follows on paper."""


def check_known_answer(
    tokens: Path, rows: Path, ablated: list[Path], heads: list[Path], neurons: Path, output: Path, page: Path
) -> None:
    """Compare a run's tables with what follows on paper, and write that into the page.

    Args:
        tokens, rows: what the run measured on.
        ablated: token rows of all shards, in folders named by the kind of ablation.
        heads: heads.parquet of each kind of ablation, in such folders.
        neurons: token rows of the neurons.
        output: CSV file of `KNOWN_ANSWER`.
        page: Markdown page with the markers of `readme.with_block`.

    Raises:
        KnownAnswerError: something differs by more than `TOLERANCE`, or a kind of token is not there.
    """
    matrix = token_matrix(pl.read_parquet(tokens))
    source = pl.read_parquet(rows).sort("row")["source"].to_numpy()
    compared = []
    for of_heads in heads:
        ablation = of_heads.parent.name
        measured = pl.concat(pl.read_parquet(shard) for shard in ablated if shard.parent.name == ablation)
        derived = derive(matrix, source, ablation)
        parts = [of_tokens(derived, measured), of_means(derived, measured, pl.read_parquet(of_heads))]
        if ablation == "resample":
            parts += [by_pencil(matrix, source, measured), of_neurons(derived, pl.read_parquet(neurons))]
        compared += [(ablation, *each) for part in parts for each in part]
    table = as_table(compared)
    worst = table.sort("largest_difference", descending=True).row(0, named=True)
    if not worst["largest_difference"] <= TOLERANCE:
        raise KnownAnswerError(f"differs from what follows on paper, most of all here: {worst}")
    write_table(table, output)
    write_text(page, with_block(page.read_text(), shown(table)))


def of_tokens(derived: dict[str, np.ndarray], measured: pl.DataFrame) -> Iterator[Compared]:
    """Every kept token row of every head."""
    for head, table in measured.partition_by("layer", "head", as_dict=True).items():
        for quantity in QUANTITIES:
            yield head, "kept", quantity, _at(derived[quantity], table), table[quantity].to_numpy()


def of_means(derived: dict[str, np.ndarray], measured: pl.DataFrame, heads: pl.DataFrame) -> Iterator[Compared]:
    """Means over all tokens, and over top tokens, which must be those with the largest direct effects."""
    selected = measured.filter("selected").partition_by("layer", "head", as_dict=True)
    for row in heads.filter(pl.col("quantity").is_in(list(EFFECTS)), statistic="mean").iter_rows(named=True):
        head, quantity = (row["layer"], row["head"]), row["quantity"]
        values = derived[quantity][head].ravel()
        if row["tokens"] == "top":
            top = selected[head]
            values = np.sort(values)[-len(top) :] if quantity == "direct_effect" else _at(derived[quantity], top)
        yield head, row["tokens"], quantity, values.mean(keepdims=True), np.array([row["value"]])


def by_pencil(matrix: np.ndarray, source: np.ndarray, measured: pl.DataFrame) -> Iterator[Compared]:
    """Kept tokens of the kind that is worked with a pencil."""
    for head in PENCIL:
        of_head = measured.filter(layer=head[0], head=head[1])
        chosen = of_head.filter(pencil_tokens(matrix, source, head)[_place(of_head)])
        for quantity, value in pencil(head).items():
            yield head, "pencil", quantity, np.full(len(chosen), value), chosen[quantity].to_numpy()


def of_neurons(derived: dict[str, np.ndarray], neurons: pl.DataFrame) -> Iterator[Compared]:
    """The neuron that erases makes all of its layer's change, and every other neuron of both layers none."""
    for (*head, layer), table in neurons.partition_by("layer", "head", "mlp_layer", as_dict=True).items():
        listed, change = (table[name].to_numpy() for name in ("neuron", "neuron_change"))
        erases = (listed == NEURON) & (layer == 1)
        expected = _at(derived["repair_mlp"], table)[:, None] * erases
        there = listed >= 0
        yield tuple(head), f"neurons of layer {layer}", "neuron_change", expected[there], change[there]


def as_table(compared: list[tuple]) -> pl.DataFrame:
    """Rows of `KNOWN_ANSWER`."""
    rows = []
    for ablation, (layer, head), tokens, quantity, expected, measured in compared:
        if len(expected) == 0:
            raise KnownAnswerError(f"{ablation}, L{layer}H{head}: no tokens of the kind `{tokens}`; measure more rows")
        numbers = (len(expected), expected.mean(), measured.mean(), abs(measured - expected).max())
        rows.append((ablation, layer, head, tokens, quantity, *numbers))
    return frame(dict(zip(KNOWN_ANSWER, zip(*rows, strict=True), strict=True)), KNOWN_ANSWER)


def shown(table: pl.DataFrame) -> str:
    """The Markdown that the page shows: the tokens worked with a pencil, and the largest difference anywhere."""
    lines = ["| head | tokens | | " + " | ".join(f"`{name}`" for name in SHOWN) + " |", "|---|---:|---|" + "---:|" * 6]
    for (layer, head), name in NAMES.items():
        of_head = table.filter(layer=layer, head=head, tokens="pencil")
        by_name = {row["quantity"]: row for row in of_head.iter_rows(named=True)}
        for column, first in (("expected", name), ("measured", "")):
            values = (f"{by_name[quantity][column]:.4f}".replace("-0.0000", "0.0000") for quantity in SHOWN)
            count = str(of_head["n"][0]) if first else ""
            lines.append(f"| {first} | {count} | {column} | " + " | ".join(values) + " |")
    kept = table.filter(tokens="kept")
    total = kept.filter(quantity="self_repair")["n"].sum()
    everywhere = (
        f"Over all {total:,} token rows of the run, of every head and kind of ablation, over the means of `heads.csv` "
        f"and the changes of single neurons, no number differs from the derivation by more than {TOLERANCE:.0e}."
    )
    return "\n".join([*lines, "", everywhere])


def _place(table: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return table["row"].to_numpy(), table["pos"].to_numpy()


def _at(derived: np.ndarray, table: pl.DataFrame) -> Numbers:
    """Derived numbers at the rows of a table, which are of one head."""
    return derived[table["layer"][0], table["head"][0]][_place(table)]
