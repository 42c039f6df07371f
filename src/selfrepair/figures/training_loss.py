"""Training curves of the models that are shipped, against a bigram model of the same corpus."""

import json
from pathlib import Path

import altair as alt
import polars as pl

from selfrepair.figures import theme

TRAIN, HELD_OUT = "training batches", "held-out text"
SERIES = alt.Scale(domain=[TRAIN, HELD_OUT], range=[theme.SKY, theme.VERMILION])
BASELINES = {"held_out_loss_bigram": "Bigram", "held_out_loss": "Finished"}
HEIGHT = 200  # px


def training_loss_of_models(models: list[str], logs: list[Path], summaries: list[Path]) -> alt.ConcatChart:
    """Draw `training_loss` from `training.csv` and `training.json` of each model."""
    named = zip(models, logs, strict=True)
    tables = [pl.read_csv(path).with_columns(model=pl.lit(name)) for name, path in named]
    finished = [json.loads(path.read_text()) for path in summaries]
    baselines = [
        {"model": name} | {key: summary[key] for key in BASELINES}
        for name, summary in zip(models, finished, strict=True)
    ]
    return training_loss(pl.concat(tables, how="vertical_relaxed"), pl.DataFrame(baselines))


def training_loss(logs: pl.DataFrame, baselines: pl.DataFrame) -> alt.ConcatChart:
    """Draw training and held-out loss (nats per token) against tokens seen (millions), one panel per model.

    Args:
        logs: columns of `training.csv` (`selfrepair.models.train`) and `model`; `held_out_loss` is null where it was
            not measured.
        baselines: columns model, held_out_loss (of the finished model on all held-out text) and held_out_loss_bigram,
            drawn as labelled lines.
    """
    models = theme.names(logs)
    columns = theme.columns_of(len(models))
    losses = (
        logs.select("train_loss", "held_out_loss")
        .unpivot()["value"]
        .append(baselines.select(*BASELINES).unpivot()["value"])
    )
    low, high = losses.min(), losses.max()
    margin = 0.08 * (high - low) or 1.0
    domain = [low - margin, high + margin]
    panels = []
    for index, model in enumerate(models):
        of_model = pl.col("model") == model
        y_axis = theme.left_only("Loss (nats per token)", index, columns)
        panels.append(
            _panel(logs.filter(of_model), baselines.filter(of_model), columns, domain, y_axis).properties(title=model)
        )
    return theme.themed(
        alt.concat(*panels, columns=columns),
        "Training curves: loss in nats per token on training batches and on held-out text against millions of tokens "
        f"seen, with the loss of a bigram model as a dashed line, for {', '.join(models)}.",
        ["Dashed: loss on all held-out text of the finished model, and of a bigram model of the training text."],
    )


def _panel(
    logs: pl.DataFrame, baselines: pl.DataFrame, columns: int, domain: list[float], y_axis: alt.Axis
) -> alt.LayerChart:
    curves = logs.unpivot(
        on=["train_loss", "held_out_loss"], index=["step", "tokens"], variable_name="text", value_name="loss"
    ).drop_nulls("loss")
    curves = curves.select(
        "step",
        "loss",
        millions=pl.col("tokens") / 1e6,
        text=pl.col("text").replace_strict({"train_loss": TRAIN, "held_out_loss": HELD_OUT}),
    )
    width = theme.panel_width(columns)
    y = alt.Y("loss:Q", scale=alt.Scale(domain=domain, nice=False), axis=y_axis)
    base = alt.Chart(theme.embed(curves)).encode(
        x=alt.X(
            "millions:Q",
            title="Tokens seen (millions)",
            scale=alt.Scale(nice=False, zero=True),
            axis=alt.Axis(tickCount=4),
        ),
        y=y,
        color=alt.Color("text:N", scale=SERIES, title=None),
        tooltip=[
            alt.Tooltip("text:N"),
            alt.Tooltip("step:Q", format=","),
            alt.Tooltip("millions:Q", title="tokens seen (millions)", format=".2f"),
            alt.Tooltip("loss:Q", title="loss (nats per token)", format=".4f"),
        ],
    )
    marks = [base.mark_line(strokeWidth=1.4)]
    marks.append(base.transform_filter(alt.datum.text == HELD_OUT).mark_circle(size=14, opacity=1))
    rules = baselines.unpivot(on=list(BASELINES), variable_name="rule", value_name="loss").select(
        "loss", name=pl.col("rule").replace_strict(BASELINES)
    )
    across = alt.Chart(theme.embed(rules)).encode(y=y)
    tooltip = [
        alt.Tooltip("name:N", title="held-out loss of"),
        alt.Tooltip("loss:Q", title="nats per token", format=".4f"),
    ]
    marks.append(across.mark_rule(strokeDash=[5, 3], color=theme.INK, strokeWidth=1).encode(tooltip=tooltip))
    label = alt.expr.format(alt.datum.loss, ".3f")
    for name, x_px, align, dy in (("Bigram", width - 3, "right", -7), ("Finished", 3, "left", 8)):
        text = across.transform_filter(alt.datum.name == name).transform_calculate(label=alt.datum.name + " " + label)
        text = text.encode(x=alt.value(x_px), text="label:N")
        marks.append(text.mark_text(align=align, dy=dy, stroke="white", strokeWidth=3))
        marks.append(text.mark_text(align=align, dy=dy, color=theme.INK))
    return alt.layer(*marks).properties(width=width, height=HEIGHT)
