"""The iterative-inference experiments over the tokens of a run (experiments.md a.15): sums and token rows."""

from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ablation.inputs import read_inputs
from selfrepair.ablation.interventions import Additions, Moves, add_to_stream, move_layers
from selfrepair.ablation.memory import chunk_tokens
from selfrepair.ablation.program import Machine, read_sampled
from selfrepair.ablation.schema import ADDITIONS, MOVES
from selfrepair.ablation.selection import selected_tokens
from selfrepair.core.progress import Progress
from selfrepair.core.tables import empty, frame, write_parquet
from selfrepair.models.directory import parse_head
from selfrepair.models.folded import FoldedModel
from selfrepair.tokens.rows import token_matrix

MOMENTS = ("n", "direct_effect", "moved", "ablated", "direct_effect_squared", "moved_squared", "direct_effect_moved")
RECEIVERS = 4  # heads of the self-repression experiment, as in the original


def strongest_heads(selected: pl.DataFrame) -> list[tuple[int, int]]:
    """(layer, head) by falling mean direct effect on their top tokens; of equals the earlier head first.

    Args:
        selected: rows of `SELECTED`.
    """
    means = selected.group_by("layer", "head").agg(pl.col("direct_effect").cast(pl.Float64).mean())
    ordered = means.sort("direct_effect", "layer", "head", descending=[True, False, False])
    return ordered.select("layer", "head").rows()


def measure_moves(model: FoldedModel, tokens: pl.DataFrame, rows: pl.DataFrame, selected: pl.DataFrame) -> pl.DataFrame:
    """Skip each layer, and ablate its strongest head instead; sum the direct effects of the next layer's heads.

    Args:
        tokens, rows: tables of `TOKENS` and `ROWS`.
        selected: rows of `SELECTED`.

    Returns:
        rows of `MOVES`: over all tokens, and over the top tokens of the head that is ablated.
    """
    inputs = read_inputs(tokens, rows)
    n_rows, length = inputs.documents.shape
    documents, inverse = np.unique(inputs.documents.numpy(), return_inverse=True)
    document = torch.from_numpy(inverse.reshape(n_rows, length))
    first = {layer: head for layer, head in reversed(strongest_heads(selected))}  # each layer's strongest
    ablated = [first[layer] for layer in range(model.n_layers - 1)]
    top = selected_tokens(selected, list(enumerate(ablated)), torch.arange(n_rows), length)
    later = len(ablated)
    sums = {name: torch.zeros(later, model.n_heads, len(documents), len(MOMENTS)).double() for name in ("all", "top")}
    layer_effect = torch.zeros(model.n_layers, dtype=torch.float64)
    progress = Progress(f"{model.name}: moving layers", n_rows * length, work=n_rows * length * model.n_layers)
    # Each row brings the row that its replacements come from.
    for batch in torch.arange(n_rows).split(max(1, chunk_tokens(model) // (2 * length))):
        effects = move_layers(model, inputs.tokens, inputs.source, batch, ablated, progress)
        layer_effect += effects.direct_effect.double().sum((1, 2, 3)).cpu()
        values, at = _moments(effects), document[batch].flatten()
        sums["all"].index_add_(2, at, values)
        sums["top"].index_add_(2, at, values * top[:, None, batch].flatten(2)[..., None])
    effect = (layer_effect / (n_rows * length)).tolist()
    return pl.concat([_moves_table(name, total, documents, ablated, effect) for name, total in sums.items()])


def measure_repression(
    model: FoldedModel,
    tokens: pl.DataFrame,
    clean_tokens: pl.DataFrame,
    selected: pl.DataFrame,
    heads: list[tuple[int, int]],
    strengths: list[float],
    count: int,
    seed: int,
) -> pl.DataFrame:
    """Add each head's own output, and two controls, to what its layer reads, at one position per run.

    Args:
        tokens: rows of `TOKENS`.
        clean_tokens: rows of `CLEAN_TOKENS`.
        selected: rows of `SELECTED`.
        heads: the receiving heads.
        strengths: factors of what is added.
        count: tokens of each head, drawn from its top tokens; all, if there are fewer.

    Returns:
        rows of `ADDITIONS`.
    """
    matrix = torch.from_numpy(token_matrix(tokens))
    longest = matrix.shape[1] - 1
    drawn_of = [min(count, selected.filter(layer=layer, head=head).height) for layer, head in heads]
    progress = Progress(f"{model.name}: self-repression", sum(drawn_of), work=sum(drawn_of) * model.n_layers)
    tables = [empty(ADDITIONS)]
    for layer, head in heads:
        generator = np.random.default_rng([seed, 4, layer, head])
        of_head = selected.filter(layer=layer, head=head).sort("rank")
        drawn = np.sort(generator.permutation(len(of_head))[:count])
        # Equal positions lie together, so that rows are cut as early as they can be.
        wanted = of_head[drawn].join(clean_tokens.select("row", "pos", "document"), on=["row", "pos"], how="left")
        wanted = wanted.sort("pos", "row")
        others = np.delete(np.arange(model.n_heads), head)
        other = torch.from_numpy(generator.choice(others, len(wanted))) if len(others) else None
        noise = torch.from_numpy(generator.standard_normal((len(wanted), model.d_model)))
        row, pos = (wanted[name].to_torch().long() for name in ("row", "pos"))
        for part in torch.arange(len(wanted)).split(max(1, chunk_tokens(model) // longest)):
            beside = None if other is None else other[part]
            effects = add_to_stream(
                model, matrix[row[part]], pos[part], layer, head, beside, noise[part], strengths, progress
            )
            tables.append(_additions_table(effects, wanted[part.numpy()], strengths))
    return pl.concat(tables)


def _moments(effects: Moves) -> Float[Tensor, "later_layer head token moment"]:
    clean, moved, ablated = (
        part.flatten(2).double().cpu() for part in (effects.direct_effect[1:], effects.moved, effects.ablated)
    )
    parts = (torch.ones_like(clean), clean, moved, ablated, clean.square(), moved.square(), clean * moved)
    return torch.stack(parts, -1)


def _moves_table(
    name: str,
    sums: Float[Tensor, "later_layer head document moment"],
    documents: Int[np.ndarray, " document"],
    ablated: list[int],
    effect: list[float],
) -> pl.DataFrame:
    layer, head, document = (sums[..., 0] > 0).nonzero(as_tuple=True)
    values = sums[layer, head, document].numpy()
    columns = {moment: values[:, index] for index, moment in enumerate(MOMENTS)}
    columns |= {
        "layer": layer.numpy() + 1,
        "head": head.numpy(),
        "tokens": [name] * len(layer),
        "document": documents[document.numpy()],
        "n": values[:, 0].astype(int),
        "ablated_head": np.array(ablated, dtype=int)[layer.numpy()],
        "moved_layer_effect": np.array(effect)[layer.numpy()],
    }
    return frame(columns, MOVES)


def _additions_table(effects: Additions, wanted: pl.DataFrame, strengths: list[float]) -> pl.DataFrame:
    """Token rows of what was measured at some tokens, in the order of direction, strength, token."""
    repeats = len(effects.directions) * len(strengths)
    columns = {name: np.tile(wanted[name].to_numpy(), repeats) for name in ("layer", "head", "row", "pos", "document")}
    columns |= {
        "direction": np.repeat(effects.directions, len(strengths) * len(wanted)),
        "strength": np.tile(np.repeat(np.array(strengths, dtype=float), len(wanted)), len(effects.directions)),
        "direct_effect": np.tile(effects.direct_effect.float().cpu().numpy(), repeats),
        "new_direct_effect": effects.clean_scale.float().flatten().cpu().numpy(),
        "new_direct_effect_perturbed": effects.perturbed_scale.float().flatten().cpu().numpy(),
    }
    return frame(columns, ADDITIONS)


def measure_iterative(
    model: Path,
    sampled: Path,
    clean: Path,
    heads: list[str],
    strengths: list[float],
    count: int,
    seed: int,
    output: Path,
    machine: Machine = Machine(),
) -> None:
    """Skip layers, and add heads' own outputs to what they read: the iterative-inference experiments, exploratory.

    Args:
        model: folder of the folded model.
        sampled: folder with tokens.parquet and rows.parquet.
        clean: folder of the clean pass.
        heads: repress none but these, written as L9H11; any if none.
        strengths: factors of what is added.
        count: top tokens of each head at which something is added.
        seed: seed of tokens, other heads and random directions.
        output: folder for moves and additions.
    """
    folded, record = machine.load(model)
    tokens, rows = read_sampled(sampled)
    clean_tokens, selected = (pl.read_parquet(clean / f"{name}.parquet") for name in ("tokens", "selected"))
    allowed = set(map(parse_head, heads))
    receivers = [head for head in strongest_heads(selected) if not allowed or head in allowed][:RECEIVERS]
    write_parquet(measure_moves(folded, tokens, rows, selected), output / "moves.parquet", record)
    additions = measure_repression(folded, tokens, clean_tokens, selected, receivers, strengths, count, seed)
    write_parquet(additions, output / "additions.parquet", record)
