"""Small tables for the figures, and what a finished chart shows of them."""

import altair as alt
import polars as pl
import pytest

from selfrepair.analysis.schema import MOVING, REPRESSION, RESPONDERS, STATISTICS
from selfrepair.figures.effect_scatter import effect_scatter
from selfrepair.figures.iterative import layer_moving, self_repression
from selfrepair.figures.repair_breakdown import repair_breakdown
from selfrepair.figures.repair_by_depth import repair_by_depth
from selfrepair.figures.repair_split import repair_share, repair_split
from selfrepair.figures.responders import responders
from selfrepair.figures.self_repair_by_depth import self_repair_by_depth
from selfrepair.figures.training_loss import training_loss
from tests.helpers.study_drawings import STUDY_FIGURES
from tests.helpers.token_drawings import TOKEN_FIGURES

N_LAYERS, N_HEADS = 3, 2
QUANTITIES = [
    "direct_effect",
    "ablated_direct_effect",
    "delta_logit",
    "self_repair",
    "repair_norm",
    "repair_attention",
    "repair_mlp",
]
STATISTIC_NAMES = ["mean", "median", "share", "clipped_share"]
MODELS = ["one", "two"]


def number(*key) -> float:
    """A number that no other row of the tables shares."""
    return round(((hash_of(key) % 99_991) / 99_991 - 0.4), 6)


def hash_of(key: tuple) -> int:
    total = 7
    for character in "|".join(map(str, key)):
        total = (total * 131 + ord(character)) % 1_000_000_007
    return total


def statistics(per_head: bool, models: list[str] = MODELS) -> pl.DataFrame:
    keys = [
        (model, "resample", N_LAYERS, layer, head, tokens, quantity, statistic)
        for model in models
        for layer in range(N_LAYERS)
        for head in (range(N_HEADS) if per_head else [None])
        for tokens in ("top", "all")
        for quantity in QUANTITIES
        for statistic in STATISTIC_NAMES
    ]
    rows = [(*key, number(*key), number(*key) - 0.01, number(*key) + 0.02, 100, 10, 6.5) for key in keys]
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in STATISTICS.items()}, orient="row")


def responder_table() -> pl.DataFrame:
    rows = [
        (model, "resample", layer, head, tokens, part, later, number(model, layer, head, tokens, part, later))
        for model in MODELS
        for layer in range(N_LAYERS)
        for head in range(N_HEADS)
        for tokens in ("top", "all")
        for part in ("attention", "mlp")
        for later in range(N_LAYERS)
    ]
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in RESPONDERS.items()}, orient="row")


def moving_table() -> pl.DataFrame:
    """Rows per head, and correlations of each layer and of all."""
    heads = [
        (model, N_LAYERS, layer, layer == 1, 0, head, tokens, quantity)
        for model in MODELS
        for layer in range(N_LAYERS - 1)
        for head in range(N_HEADS)
        for tokens in ("all", "top")
        for quantity in ("direct_effect", "change_moving", "change_ablating")
    ]
    correlations = [
        (model, N_LAYERS, layer, layer == 1, None if layer is None else 0, None, tokens, "correlation")
        for model in MODELS
        for layer in (*range(N_LAYERS - 1), None)
        for tokens in ("all", "top")
    ]
    rows = [(*key, number(*key), number(*key) - 0.01, number(*key) + 0.02, 100, 10) for key in (*heads, *correlations)]
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in MOVING.items()}, orient="row")


def repression_table() -> pl.DataFrame:
    keys = [
        (model, N_LAYERS, layer, head, direction, strength, scale, statistic)
        for model in MODELS
        for layer, head in ((2, 0), (1, 1), (None, None))
        for direction in ("own", "other", "random")
        for strength in (1.0, 3.0)
        for scale in ("clean", "perturbed")
        for statistic in ("ratio", *(["share_repressed"] if head is None else []))
    ]
    rows = [(*key, number(*key), number(*key) - 0.01, number(*key) + 0.02, 100, 10) for key in keys]
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in REPRESSION.items()}, orient="row")


def training_tables() -> tuple[pl.DataFrame, pl.DataFrame]:
    steps = [100, 200, 1000]
    logs = [
        pl.DataFrame(
            {
                "model": [model] * 3,
                "step": steps,
                "tokens": [step * 4096 for step in steps],
                "learning_rate": [1e-3] * 3,
                "train_loss": [8.0 + index, 5.5, 3.25],
                "held_out_loss": [None, None, 3.5 + index],
                "seconds": [1.0, 2.0, 10.0],
            }
        )
        for index, model in enumerate(MODELS)
    ]
    return pl.concat(logs), pl.DataFrame(
        {"model": MODELS, "held_out_loss": [3.4, 4.4], "held_out_loss_bigram": [4.9, 4.8]}
    )


HEADS, LAYERS = statistics(per_head=True), statistics(per_head=False)
FIGURES = {
    "self_repair_by_depth": lambda: self_repair_by_depth(HEADS, LAYERS),
    "effect_scatter": lambda: effect_scatter(HEADS.filter(pl.col("model") == "one")),
    "repair_split": lambda: repair_split(LAYERS),
    "repair_share": lambda: repair_share(LAYERS),
    "repair_by_depth": lambda: repair_by_depth(LAYERS),
    "repair_breakdown": lambda: repair_breakdown(LAYERS),
    **TOKEN_FIGURES,
    **STUDY_FIGURES,
    "responders": lambda: responders(responder_table()),
    "training_loss": lambda: training_loss(*training_tables()),
    "layer_moving": lambda: layer_moving(moving_table()),
    "self_repression": lambda: self_repression(repression_table()),
}


def views(spec: dict) -> list[dict]:
    """Every view of a specification that draws marks, with the title of the panels above it."""

    def walk(node: dict, titles: tuple, data: dict | None) -> list[dict]:
        titles = (*titles, node["title"]) if isinstance(node.get("title"), str) else titles
        data = node.get("data", data)
        found = [{**node, "titles": titles, "rows": spec["datasets"][data["name"]]}] if "mark" in node else []
        for key in ("layer", "concat", "hconcat", "vconcat"):
            for child in node.get(key, []):
                found += walk(child, titles, data)
        return found

    return walk(spec, (), None)


def drawn(chart: alt.TopLevelMixin, mark: str, title: str, **encoded: str) -> list[dict]:
    """Rows that a kind of mark draws in the panel with a title, where the channels show the given fields."""
    found = []
    for view in views(chart.to_dict()):
        kind = view["mark"] if isinstance(view["mark"], str) else view["mark"]["type"]
        fields = {channel: e.get("field") for channel, e in view["encoding"].items() if isinstance(e, dict)}
        if kind == mark and title in view["titles"] and all(fields.get(c) == f for c, f in encoded.items()):
            found.append(view["rows"])
    assert len(found) == 1, f"{len(found)} views of {mark} in {title!r} with {encoded}"
    return found[0]


def expected(table: pl.DataFrame, *names: str, **wanted: str) -> list[tuple]:
    return sorted(table.filter(**wanted).select(names).rows())


def shown(rows: list[dict], *names: str) -> list[tuple]:
    return sorted(tuple(row[name] for name in names) for row in rows)


def close(found: list[tuple], wanted: list[tuple]) -> None:
    """A figure that shows another number than its table is wrong."""
    assert found, "nothing is drawn"
    assert len(found) == len(wanted)
    for f, w in zip(found, wanted, strict=True):
        assert f == pytest.approx(w, rel=1e-5)
