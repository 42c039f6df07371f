"""What the explorer shows of one model, gathered from the tables of a run."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from selfrepair.ablation.measured import measured_tokens
from selfrepair.ablation.selection import Measured
from selfrepair.core.files import write_text
from selfrepair.report.explorer.text import PLACE, contexts, pieces, strongest, window
from selfrepair.tokens.contexts import Decode, context
from selfrepair.tokens.rows import token_matrix
from selfrepair.tokens.tokenizer import decoder

DRAWN = 150  # tokens of either kind in a head's scatter
LATER_HEADS = 30  # of each head, those that respond most
NEURONS = 10  # of each MLP whose neurons were measured
DIGITS = 5  # significant ones
READ = [*PLACE, "selected", "control", "direct_effect", "delta_logit", "self_repair"]  # columns of the token rows
EXPLORER = {
    "model": "name of the model",
    "n_layers": "number of layers",
    "n_heads": "attention heads per layer",
    "parallel": "whether MLPs read their block's input, so that the MLP of a head's own layer can't respond",
    "heads": "measured heads; lists below that are per head have their order",
    "start": "head that is shown first: largest mean self-repair on its top tokens",
    "ablations": "kinds of ablation",
    "measure": "which tokens were measured, by ablation: all or selected; then `all` below is the control sample",
    "statistics": "by ablation, tokens, statistic and quantity: value and interval of each head, as in heads.parquet",
    "counts": "by ablation, tokens and statistic: of each head the number of tokens and of documents behind it, and "
    "Kish's effective number of these",
    "responders": "by ablation, tokens and part: each head's mean response of every layer, as in responders.parquet",
    "scatter": f"at most {DRAWN} control and {DRAWN} top tokens of each head, drawn at random: text, direct effect, "
    "and by ablation the change of the logit",
    "contexts": "of each head its top tokens in context: text, and effects of the predictions that were kept",
    "lens": "of each head the tokens that it promotes and those that it suppresses, by sign: text, and mean direct "
    "effect on their logits, as in lens.parquet",
    "hand_off": f"of each head the {LATER_HEADS} later heads that respond most, either way: mean change of direct "
    "effect on the head's top tokens, resample ablation, as in hand-off/hand_off.parquet",
    "neurons": f"by chosen head: the {NEURONS} neurons of each MLP that are most often among those that change most, "
    "and those that erase, as in neurons/frequency.parquet and neurons/erasure.parquet, resample ablation",
}


@dataclass(frozen=True)
class Tables:
    """Tables of one model.

    Attributes:
        facts: model.json.
        measure: `ablation.measure` of the configuration.
        heads, responders: `STATISTICS` and `RESPONDERS`, of all kinds of ablation.
        tokens: by kind of ablation, the columns `READ` of the token rows.
        sampled: `TOKENS`.
        selected: `SELECTED`.
        lens: `LENS`.
        hand_off: `HAND_OFF`.
        frequency, erasure: `NEURON_FREQUENCY` and `ERASURE_NEURONS`.
    """

    facts: dict[str, Any]
    measure: Measured
    heads: pl.DataFrame
    responders: pl.DataFrame
    tokens: dict[str, pl.DataFrame]
    sampled: pl.DataFrame
    selected: pl.DataFrame
    lens: pl.DataFrame
    hand_off: pl.DataFrame
    frequency: pl.DataFrame
    erasure: pl.DataFrame


def model_data(tables: Tables, decode: Decode, seed: int) -> dict[str, Any]:
    """Gather what the explorer shows of a model (`EXPLORER`); effects are in logits, to `DIGITS` significant digits.

    Args:
        decode: tokens to text.
        seed: of the tokens drawn for the scatter.
    """
    heads = tables.heads.select("layer", "head").unique().sort("layer", "head")
    matrix = token_matrix(tables.sampled)
    top = strongest(tables.selected, heads)
    seen = window(top)
    kept = {ablation: rows.join(seen, on=PLACE, how="semi") for ablation, rows in tables.tokens.items()}
    shown = contexts(top, kept, matrix, decode)
    points = _draw(next(iter(tables.tokens.values())), heads, seed)

    def text(rows: pl.DataFrame) -> list[str]:
        return [context(matrix[row], pos, decode) for row, pos in rows.select("row", "pos").rows()]

    nested = {
        "model": tables.facts["name"],
        **{name: tables.facts[name] for name in ("n_layers", "n_heads", "parallel")},
        "heads": [head_name(*head) for head in heads.rows()],
        "start": _start(tables.heads),
        "ablations": list(tables.tokens),
        "measure": {kind: measured_tokens(tables.measure, kind) for kind in tables.tokens},
        "statistics": _statistics(tables.heads, heads),
        "counts": _counts(tables.heads, heads),
        "responders": _responders(tables.responders, heads),
        "scatter": {
            "control": {
                "text": text(points["control"].join(heads.head(1), on=["layer", "head"], how="semi")),
                **_values(points["control"], tables.tokens, heads),
            },
            "top": {
                "text": [text(of_head) for of_head in _by_head(points["top"], heads)],
                **_values(points["top"], tables.tokens, heads),
            },
        },
        "contexts": [shown.get(head, []) for head in heads.rows()],
        "lens": _lens(tables.lens, heads, int(matrix[0, 0]), decode),
        "hand_off": _hand_off(tables.hand_off),
        "neurons": _neurons(tables.frequency, tables.erasure),
    }
    return _rounded(nested)


def to_json(data: dict[str, Any]) -> str:
    """Write data as JSON without spaces."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def head_name(layer: int, head: int) -> str:
    """Name a head, such as L3H5."""
    return f"L{layer}H{head}"


def _start(statistics: pl.DataFrame) -> str:
    means = statistics.filter(tokens="top", statistic="mean", quantity="self_repair")
    first = means.filter(pl.col("ablation") == means["ablation"][0])
    largest = first.sort("value", descending=True, nulls_last=True)
    return head_name(largest["layer"][0], largest["head"][0])


def _statistics(statistics: pl.DataFrame, heads: pl.DataFrame) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    keys = ["ablation", "tokens", "statistic", "quantity"]
    for key, rows in statistics.partition_by(keys, as_dict=True, maintain_order=True).items():
        within = nested
        for name in key[:-1]:
            within = within.setdefault(name, {})
        within[key[-1]] = _aligned(rows, heads, ["value", "low", "high"])
    return nested


def _counts(statistics: pl.DataFrame, heads: pl.DataFrame) -> dict[str, Any]:
    one = statistics.filter(quantity="self_repair")  # the counts of a statistic are those of all its quantities
    nested: dict[str, Any] = {}
    keys = ["ablation", "tokens", "statistic"]
    for (ablation, tokens, statistic), rows in one.partition_by(keys, as_dict=True, maintain_order=True).items():
        counts = _aligned(rows, heads, ["n_tokens", "n_documents", "n_effective"])
        nested.setdefault(ablation, {}).setdefault(tokens, {})[statistic] = counts
    return nested


def _responders(responders: pl.DataFrame, heads: pl.DataFrame) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    keys = ["ablation", "tokens", "part"]
    for (ablation, tokens, part), rows in responders.partition_by(keys, as_dict=True, maintain_order=True).items():
        by_head = rows.sort("later_layer").group_by("layer", "head").agg("value")
        values = [row[0] for row in _aligned(by_head, heads, ["value"])]
        nested.setdefault(ablation, {}).setdefault(tokens, {})[part] = values
    return nested


def _aligned(rows: pl.DataFrame, heads: pl.DataFrame, columns: list[str]) -> list[list[Any]]:
    """Some columns of rows of which each head has one, in the order of the heads; null where it has none."""
    joined = heads.join(rows, on=["layer", "head"], how="left", maintain_order="left")
    return [list(row) for row in joined.select(columns).rows()]


def _draw(tokens: pl.DataFrame, heads: pl.DataFrame, seed: int) -> dict[str, pl.DataFrame]:
    """Draw tokens for the scatters: the same control tokens for all heads, and top tokens of each head."""
    places = tokens.filter("control").select("row", "pos").unique().sort("row", "pos")
    control = places.sample(min(DRAWN, len(places)), seed=seed).sort("row", "pos")
    top = tokens.filter("selected").select(PLACE).sort(PLACE)
    drawn = [rows.sample(min(DRAWN, len(rows)), seed=seed).sort("row", "pos") for rows in _by_head(top, heads)]
    return {"control": heads.join(control, how="cross"), "top": pl.concat(drawn)}


def _by_head(rows: pl.DataFrame, heads: pl.DataFrame) -> list[pl.DataFrame]:
    by_head = rows.partition_by("layer", "head", as_dict=True, maintain_order=True)
    return [by_head.get(head, rows.clear()) for head in heads.rows()]


def _values(points: pl.DataFrame, tokens: dict[str, pl.DataFrame], heads: pl.DataFrame) -> dict[str, Any]:
    def column(rows: pl.DataFrame, name: str) -> list[list[float | None]]:
        joined = points.join(rows.select(*PLACE, name), on=PLACE, how="left", maintain_order="left")
        return [of_head[name].to_list() for of_head in _by_head(joined, heads)]

    return {
        "direct_effect": column(next(iter(tokens.values())), "direct_effect"),
        "delta_logit": {ablation: column(rows, "delta_logit") for ablation, rows in tokens.items()},
    }


def _lens(lens: pl.DataFrame, heads: pl.DataFrame, begin: int, decode: Decode) -> list[dict[str, Any]]:
    """Texts of tokens are what they add to `begin`, the token that begins a row."""
    text = {token: pieces([begin, token], decode)[-1] for token in lens["token"].unique()}
    return [
        {
            sign: [[text[token], effect] for token, effect in rows.select("token", "direct_effect").rows()]
            for (sign,), rows in of_head.sort("place").partition_by("sign", as_dict=True, maintain_order=True).items()
        }
        for of_head in _by_head(lens, heads)
    ]


def _hand_off(table: pl.DataFrame) -> list[dict[str, Any]]:
    by_size = table.sort("layer", "head", pl.col("value").abs(), descending=[False, False, True])
    kept = by_size.group_by("layer", "head", maintain_order=True).head(LATER_HEADS)
    return kept.select("layer", "head", "later_layer", "later_head", "value").to_dicts()


def _neurons(frequency: pl.DataFrame, erasure: pl.DataFrame) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    interval = ["value", "low", "high", "n_tokens"]
    columns = {
        "frequency": ["mlp_layer", "neuron", "first", "direct_effect", "change", "anti_erasing", *interval],
        "erasure": ["mlp_layer", "neuron", "direct_effect", "ablated_direct_effect", "anti_erasing", *interval],
    }
    tables = {"frequency": frequency.filter(pl.col("place") < NEURONS), "erasure": erasure}
    shown = [name for name in erasure.columns if name.startswith("context_")]
    for name, table in tables.items():
        chosen = table.filter(token_set="direct_effect").sort("layer", "head")
        for (layer, head), rows in chosen.group_by("layer", "head", maintain_order=True):
            entries = rows.select(columns[name]).to_dicts()
            if name == "erasure":
                for entry, texts in zip(entries, rows.select(shown).rows(), strict=True):
                    entry["contexts"] = [text for text in texts if text is not None]
            nested.setdefault(head_name(layer, head), {"frequency": [], "erasure": []})[name] = entries
    return nested


def _rounded(value: Any) -> Any:
    """Round all floats to `DIGITS` significant digits; what is not finite becomes null."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value


def write_data(
    facts: Path,
    measure: Measured,
    heads: list[Path],
    responders: list[Path],
    tokens: list[str],
    sampled: Path,
    selected: Path,
    lens: Path,
    hand_off: Path,
    neurons: Path,
    tokenizer: Path,
    seed: int,
    output: Path,
) -> None:
    """Gather what the explorer shows of one model, as JSON.

    Args:
        facts: model.json of fold_model.
        measure: `ablation.measure` of the configuration.
        heads: heads.parquet of each kind of ablation.
        responders: responders.parquet of each kind.
        tokens: token rows of all shards, written as KIND=FILE.
        sampled: tokens.parquet of the run.
        selected: selected.parquet of the clean pass.
        lens: lens.parquet of measure_lens.
        hand_off: hand_off.parquet of summarise_hand_off.
        neurons: folder with the neurons' frequency and erasure.
        tokenizer: directory of the model's tokenizer.
        seed: seed of the tokens drawn.
        output: JSON file to write.
    """
    files: dict[str, list[str]] = {}
    for kind, file in (pair.split("=", 1) for pair in tokens):
        files.setdefault(kind, []).append(file)
    tables = Tables(
        facts=json.loads(facts.read_text()),
        measure=measure,
        heads=pl.read_parquet(heads),
        responders=pl.read_parquet(responders),
        tokens={kind: pl.read_parquet(paths, columns=READ) for kind, paths in files.items()},
        sampled=pl.read_parquet(sampled),
        selected=pl.read_parquet(selected),
        lens=pl.read_parquet(lens),
        hand_off=pl.read_parquet(hand_off),
        frequency=pl.read_parquet(neurons / "frequency.parquet"),
        erasure=pl.read_parquet(neurons / "erasure.parquet"),
    )
    write_text(output, to_json(model_data(tables, decoder(tokenizer), seed)))
