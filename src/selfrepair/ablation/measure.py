"""Measure ablations of a few rows, all in memory: every head, or any units. The workflow streams the same sweep."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ablation.clean import mean_z
from selfrepair.ablation.effects import Measurement, TokenEffects
from selfrepair.ablation.jobs import AblationJobs
from selfrepair.ablation.replacements import ABLATIONS, Ablation
from selfrepair.ablation.responders import LaterHeads
from selfrepair.ablation.sweep import no_means, sweep
from selfrepair.ablation.unit_names import parse_unit
from selfrepair.ablation.units import unit_jobs
from selfrepair.models.folded import FoldedModel

CLEAN = ("logit", "scale")  # fields of a `Measurement` that no ablation changes
INTEGERS = tuple(getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64))


def measure(
    model: FoldedModel,
    tokens: Int[Tensor, "row pos"],
    source: Int[Tensor, " row"],
    ablation: Ablation = "resample",
    batch_rows: int = 4,
    responders: Literal["layers", "heads"] = "layers",
) -> Measurement:
    """Ablate every head of the model in every row; the in-memory form for small inputs.

    Args:
        tokens: rows that begin with the beginning-of-text token.
        source: for each row, the row that its corrupted activations come from.
        ablation: `resample`, `zero` or `mean` (over all tokens given).
        batch_rows: rows of a batch; memory grows with it, results do not depend on it.
        responders: `heads` tells also which later heads respond (`repair_heads`), layers * heads numbers more a token.

    Raises:
        TypeError: the model is none of `load_model`.
        ValueError: an argument can't be used, as where resampling replaces a row by an equal one; the message names it.
        DecompositionError: the split does not sum to the total, or a value is not finite.
    """
    tokens, source = _checked(model, tokens, source, batch_rows)
    for name, value, known in (("ablation", ablation, ABLATIONS), ("responders", responders, ("layers", "heads"))):
        if value not in known:
            raise ValueError(f"{name}: {value!r} is not known; use one of {', '.join(known)}")
    if ablation == "resample":
        _check_rows_differ(tokens, source)
    length = tokens.shape[1] - 1
    means = mean_z(model, tokens) if ablation == "mean" else no_means(model)
    parts = []
    for rows in torch.arange(len(tokens)).split(batch_rows):
        jobs = AblationJobs.all_pairs(model.heads, rows, length)
        heads = LaterHeads(model, jobs.n_tokens) if responders == "heads" else None
        m = sweep(model, tokens, source, ablation, jobs, means, responders=heads)
        parts.append(_measurement(m, (model.n_layers, model.n_heads), heads))
    return _joined(parts)


def measure_units(
    model: FoldedModel,
    tokens: Int[Tensor, "row pos"],
    source: Int[Tensor, " row"],
    units: Sequence[str],
    direction: Int[Tensor, "row pos-1"] | Float[Tensor, "row pos-1 d_model"] | None = None,
    batch_rows: int = 4,
) -> Measurement:
    """Resample-ablate units in every row; the in-memory form for small inputs.

    A unit is a head `L3H5`, the attention or the MLP of a layer (`L3.attn`, `L3.mlp`), or a set of these joined by `+`,
    whose members of later layers hold the source's value. The direct effect of a unit is the sum over its members: of
    attention that of its heads, without biases; of an MLP with its bias. Effects have the axes `[unit, row, pos - 1]`,
    `repair_attention` and `repair_mlp` `[unit, later_layer, row, pos - 1]`; members are none of the responders.

    Args:
        tokens: rows that begin with the beginning-of-text token.
        source: for each row, the row that its corrupted activations come from.
        direction: what is measured in place of the logit of the correct next token: that logit minus the one of an
            alternative token (integers), or the final stream along a vector (floats).
        batch_rows: rows of a batch; memory grows with it, results do not depend on it.

    Raises:
        TypeError: the model is none of `load_model`, or the units are no list of names.
        ValueError: a unit is written otherwise or not in the model; the direction has another shape, or is zero
            somewhere; or another argument can't be used; the message names it.
        DecompositionError: the split does not sum to the total, or a value is not finite.
    """
    tokens, source = _checked(model, tokens, source, batch_rows)
    _check_rows_differ(tokens, source)
    if isinstance(units, str) or not (isinstance(units, Sequence) and all(isinstance(unit, str) for unit in units)):
        raise TypeError(f"units: they must be a list of names such as L3H5, L3.attn or L3.mlp, not {units!r}")
    if not units:
        raise ValueError("units: there are none; name some, such as L3H5, L3.attn or L3.mlp")
    parsed = [parse_unit(unit, model.n_layers, model.n_heads) for unit in units]
    along = None if direction is None else _direction(model, tokens[:, 1:], direction)
    parts = []
    for rows in torch.arange(len(tokens)).split(batch_rows):
        jobs = unit_jobs(parsed, rows, tokens.shape[1] - 1)
        m = sweep(model, tokens, source, "resample", jobs, no_means(model), units=parsed, direction=along)
        parts.append(_measurement(m, (len(parsed),)))
    return _joined(parts)


def _checked(model: FoldedModel, tokens: Tensor, source: Tensor, batch_rows: int) -> tuple[Tensor, Tensor]:
    """Tokens and sources in int64; refuse what would be measured as something else, or fail far from its cause."""
    if not isinstance(model, FoldedModel):
        raise TypeError(f"model: it must be what `load_model` returns, not {type(model).__name__}")
    if torch.is_autocast_enabled(torch.device(model.device).type):
        raise ValueError("torch.autocast is on, which rounds what is added up exactly; measure outside of it")
    if not _are_integers(tokens) or tokens.ndim != 2:
        raise ValueError("tokens: they must be integers of the form [row, pos], as `tokenize` gives them")
    n_rows, length = tokens.shape
    if n_rows == 0 or not 2 <= length <= model.max_positions + 1:
        raise ValueError(
            f"tokens: {n_rows} rows of {length}; at least one row is needed, of 2 to {model.max_positions + 1} tokens"
        )
    tokens = _known("tokens", model, tokens)
    if not _are_integers(source):
        raise ValueError("source: it must be a tensor of integers, for each row the row that replaces it")
    source = source.long()
    if tuple(source.shape) != (n_rows,) or int(source.min()) < -n_rows or int(source.max()) >= n_rows:
        raise ValueError(f"source: it must name one of the {n_rows} rows for each of them")
    if type(batch_rows) is not int or batch_rows < 1:
        raise ValueError(f"batch_rows: it must be a whole number from 1, not {batch_rows!r}")
    return tokens, source


def _known(name: str, model: FoldedModel, tokens: Tensor) -> Int[Tensor, "..."]:
    """Tokens in int64, which must be of the model's vocabulary."""
    tokens, d_vocab = tokens.long(), model.W_U.shape[1]
    least, most = int(tokens.min()), int(tokens.max())
    if least < 0 or most >= d_vocab:
        odd = least if least < 0 else most
        raise ValueError(f"{name}: {odd} is none of the model's {d_vocab}; is the tokenizer that of another model?")
    return tokens


def _check_rows_differ(tokens: Int[Tensor, "row pos"], source: Int[Tensor, " row"]) -> None:
    """Resampling a row from an equal one changes nothing; its last token is predicted, not read."""
    read = tokens[:, :-1]
    if (same := (read[source] == read).all(1).nonzero()).numel():
        row = int(same[0])
        raise ValueError(
            f"source: row {row} is replaced by row {int(source[row]) % len(tokens)}, of the same tokens, so that "
            f"nothing changes; name another of the {len(tokens)} rows, or take a text of more rows"
        )


def _are_integers(of: object) -> bool:
    return isinstance(of, Tensor) and of.dtype in INTEGERS


def _direction(
    model: FoldedModel, correct: Int[Tensor, "row pos"], direction: Tensor
) -> tuple[Float[Tensor, "row pos d_model"], Float[Tensor, "row pos"]]:
    """The vector that the final stream is read with, and the bias that is added."""
    is_vector = isinstance(direction, Tensor) and direction.is_floating_point()
    if is_vector and not direction.isfinite().all():
        raise ValueError("direction: it holds NaN or infinite numbers")
    if not is_vector and not _are_integers(direction):
        raise ValueError("direction: it must be a tensor of integers (tokens) or of floats (vectors)")
    wanted = (*correct.shape, model.d_model) if is_vector else tuple(correct.shape)
    if tuple(direction.shape) != wanted:
        raise ValueError(f"direction: its shape is {list(direction.shape)}; these rows need {list(wanted)}")
    if is_vector:
        along = direction.to(model.device, model.dtype)
        bias = torch.zeros(correct.shape, device=model.device, dtype=model.dtype)
    else:
        direction = _known("direction", model, direction)
        (v, b), (other, of_other) = (model.unembedding(of.to(model.device)) for of in (correct, direction))
        along, bias = v - other, b - of_other
    if (zero := (along == 0).all(-1).nonzero()).numel():
        row, pos = zero[0].tolist()
        raise ValueError(
            f"direction: it is zero in row {row} at {pos}; an alternative must be another token than the correct one"
        )
    return along, bias


def _measurement(m: TokenEffects, units: tuple[int, ...], heads: LaterHeads | None = None) -> Measurement:
    """With axes for units and rows in place of jobs' tokens."""
    of_unit = m.jobs.head if len(units) == 1 else m.jobs.layer * units[1] + m.jobs.head
    order = (of_unit * len(m.rows) + torch.searchsorted(m.rows, m.jobs.row)).argsort().to(m.logit.device)
    values = {field.name: getattr(m, field.name, None) for field in fields(Measurement)}
    if heads is not None:
        values["repair_heads"] = heads.effects(m)
    row = len(units)
    for name, value in values.items():
        if value is not None and name not in CLEAN:
            by_job = value.unflatten(0, (len(m.jobs), m.logit.shape[1]))[order]
            values[name] = by_job.unflatten(0, (*units, len(m.rows))).movedim((row, row + 1), (-2, -1))
    return Measurement(**values)


def _joined(parts: list[Measurement]) -> Measurement:
    """The rows of several measurements, one after the other."""
    values = {field.name: [getattr(part, field.name) for part in parts] for field in fields(Measurement)}
    return Measurement(**{name: None if of[0] is None else torch.cat(of, -2) for name, of in values.items()})
