"""Small tables of runs for the explorer, of random numbers: no model was run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from selfrepair.ablation.measured import measured_tokens
from selfrepair.ablation.schema import EFFECTS, LENS, SELECTED
from selfrepair.analysis.overview import MODELS, write_models
from selfrepair.analysis.schema import RESPONDERS, STATISTICS
from selfrepair.analysis.schema_beyond import HAND_OFF
from selfrepair.analysis.schema_neurons import ERASURE_NEURONS, NEURON_FREQUENCY
from selfrepair.core.tables import Column, empty, frame
from selfrepair.report.explorer.data import Tables, model_data, to_json
from selfrepair.report.explorer.page import page, read_run
from selfrepair.tokens.schema import TOKENS

N_ROWS, LENGTH, VOCABULARY = 6, 40, 26
CONTROL = 20  # control tokens
ABLATIONS = ["resample", "zero"]
HOSTILE = "</script><img src=http://example.invalid/x onerror=alert(1)><!--"
SHARED = ["self_repair", "repair_norm", "repair_attention", "repair_mlp"]
PARTIAL = [(0, 1), (0, 2), (2, 0), (2, 3)]  # measured heads of a model with 3 layers of 4


def decode(tokens: list[int]) -> str:
    """One letter per token; token 3 is a line break, token 4 does its worst."""
    return "".join({3: "\n", 4: HOSTILE}.get(token, chr(97 + token)) for token in tokens)


def every_head(n_layers: int, n_heads: int) -> list[tuple[int, int]]:
    return [(layer, head) for layer in range(n_layers) for head in range(n_heads)]


def tables(
    name: str,
    n_layers: int,
    n_heads: int,
    heads: list[tuple[int, int]],
    parallel: bool = False,
    measure: str = "all",
    seed: int = 0,
) -> Tables:
    """Tables of a model with random numbers; neurons were measured for its last head, if it has several layers.

    No layer repairs its first head on average.
    """
    random = np.random.default_rng(seed)
    facts = {"name": name, "n_layers": n_layers, "n_heads": n_heads, "parallel": parallel}
    kept = _places(heads, random)
    return Tables(
        facts=facts,
        measure=measure,
        heads=_statistics(name, n_layers, heads, measure, random),
        responders=_responders(name, n_layers, heads, random),
        tokens={
            ablation: kept.with_columns(
                delta_logit=pl.Series(random.normal(size=len(kept)), dtype=pl.Float32),
                self_repair=pl.Series(random.normal(size=len(kept)), dtype=pl.Float32),
            )
            for ablation in ABLATIONS
        },
        sampled=_sampled(random),
        selected=_selected(kept),
        lens=_lens(heads, random),
        hand_off=empty(HAND_OFF),
        frequency=_neurons(name, heads[-1:] if n_layers > 1 else [], NEURON_FREQUENCY, random),
        erasure=_neurons(name, heads[-1:] if n_layers > 1 else [], ERASURE_NEURONS, random),
    )


def write_run(folder: Path, models: list[Tables]) -> None:
    """Write what the explorer reads of a run."""
    rows = [_facts(model.facts) for model in models]
    folder.joinpath("analysis").mkdir(parents=True)
    write_models(frame({name: [row[name] for row in rows] for name in MODELS}, MODELS), folder / "analysis/models.csv")
    for model in models:
        path = folder / "analysis" / model.facts["name"] / "explorer.json"
        path.parent.mkdir()
        path.write_text(to_json(model_data(model, decode, seed=0)))


def add_hand_off(folder: Path, n_layers: int, n_heads: int) -> None:
    """Give a model whose folder this is random changes of later heads' direct effects."""
    random = np.random.default_rng(4)
    pairs = [
        {"layer": layer, "head": head, "later_layer": later, "later_head": other, "value": float(random.normal())}
        for layer, head in every_head(n_layers, n_heads)
        for later, other in every_head(n_layers, n_heads)
        if later > layer
    ]
    path = folder / "explorer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hand_off": pairs}))


def _facts(facts: dict[str, Any]) -> dict[str, Any]:
    filler = {pl.String: "", pl.Boolean: False, pl.Int64: 1, pl.Float64: 0.5}
    return {name: facts.get("name" if name == "model" else name, filler[c.dtype]) for name, c in MODELS.items()}


def _table(rows: list[tuple], schema: dict[str, Column]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={name: column.dtype for name, column in schema.items()}, orient="row")


def _statistics(
    name: str, n_layers: int, heads: list[tuple[int, int]], measure: str, random: np.random.Generator
) -> pl.DataFrame:
    rows = []
    for ablation in ABLATIONS:
        for index, (layer, head) in enumerate(heads):
            for tokens in ("top", "all"):
                for statistic in ("mean", "median", "share", "clipped_share"):
                    control = measured_tokens(measure, ablation) == "selected" or statistic == "median"
                    count = 12 if tokens == "top" else CONTROL if control else 234
                    documents = 3 + index % 3 if tokens == "top" else 5 if control else 6
                    for quantity in SHARED if "share" in statistic else EFFECTS:
                        value = float(random.normal())
                        key = (name, ablation, n_layers, layer, head, tokens, quantity, statistic)
                        rows.append((*key, value, value - 0.25, value + 0.5, count, documents, documents - 0.5))
    return _table(rows, STATISTICS)


def _responders(name: str, n_layers: int, heads: list[tuple[int, int]], random: np.random.Generator) -> pl.DataFrame:
    def response(head: tuple[int, int]) -> float:
        value = float(random.normal())
        return -abs(value) if head == heads[0] else value

    rows = [
        (name, ablation, layer, head, tokens, part, later, response((layer, head)) if later >= layer else 0.0)
        for ablation in ABLATIONS
        for layer, head in heads
        for tokens in ("top", "all")
        for part in ("attention", "mlp")
        for later in range(n_layers)
    ]
    return _table(rows, RESPONDERS)


def _places(heads: list[tuple[int, int]], random: np.random.Generator) -> pl.DataFrame:
    """ShardRecorder tokens: the same control tokens for all heads, and 12 top tokens of each."""
    every = [(row, pos) for row in range(N_ROWS) for pos in range(LENGTH - 1)]
    control = {every[i] for i in random.choice(len(every), CONTROL, replace=False)}
    rows = []
    for layer, head in heads:
        top = {every[i] for i in random.choice(len(every), 12, replace=False)}
        rows += [
            (layer, head, *place, place in top, place in control, float(random.normal()) + 4 * (place in top))
            for place in sorted(top | control)
        ]
    names = ["layer", "head", "row", "pos", "selected", "control", "direct_effect"]
    types = [pl.Int16, pl.Int16, pl.Int32, pl.Int16, pl.Boolean, pl.Boolean, pl.Float32]
    return pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row")


def _selected(kept: pl.DataFrame) -> pl.DataFrame:
    rank = pl.col("direct_effect").rank("ordinal", descending=True).over("layer", "head").cast(pl.Int32) - 1
    return kept.filter("selected").with_columns(rank=rank).select(list(SELECTED))


def _lens(heads: list[tuple[int, int]], random: np.random.Generator) -> pl.DataFrame:
    rows = [
        (
            *head,
            sign,
            place,
            int(random.integers(1, VOCABULARY)),
            factor * (2 - place / 10),
        )
        for head in heads
        for sign, factor in (("promoted", 1), ("suppressed", -1))
        for place in range(10)
    ]
    return _table(rows, LENS)


def _sampled(random: np.random.Generator) -> pl.DataFrame:
    tokens = random.integers(1, VOCABULARY, (N_ROWS, LENGTH))
    tokens[:, 0] = 0
    rows = [
        (row, pos, int(tokens[row, pos]), row if pos else None, pos, False, None)
        for row in range(N_ROWS)
        for pos in range(LENGTH)
    ]
    return _table(rows, TOKENS)


def _neurons(
    name: str, heads: list[tuple[int, int]], schema: dict[str, Column], random: np.random.Generator
) -> pl.DataFrame:
    def value(column: str, c: Column) -> Any:
        if c.dtype == pl.String:
            return f"some text >> {HOSTILE}"
        return int(random.integers(1, 99)) if c.dtype.is_integer() else float(random.random())

    rows = []
    for layer, head in heads:
        for token_set in ("direct_effect", "top_mlp_repair"):
            for mlp_layer in (1, 2):
                for place in range(12):
                    known = {"model": name, "layer": layer, "head": head, "mlp_layer": mlp_layer}
                    known |= {"token_set": token_set, "place": place}
                    rows.append(tuple(known[n] if n in known else value(n, c) for n, c in schema.items()))
    return _table(rows, schema)


def write_page(path: Path, runs: list[Path]) -> None:
    """Write the explorer of some runs."""
    path.write_text(page([read_run(run) for run in runs]))
