"""Stream the ablation of a shard of rows: token rows of what is kept, sums over everything."""

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from selfrepair import store
from selfrepair.clean_run import CleanRun
from selfrepair.models.folded import FoldedModel
from selfrepair.progress import Progress
from selfrepair.replacements import Ablation
from selfrepair.sweep import Measurement, sweep_rows
from selfrepair.tokens import token_matrix

LIVE_BYTES = 10**9  # of the residual streams of all runs of a batch


def shard_rows(n_rows: int, shard: int, shards: int) -> Int[Tensor, " row"]:
    """Rows of one of `shards` nearly equal shards."""
    return torch.from_numpy(np.array_split(np.arange(n_rows), shards)[shard])


def rows_at_once(model: FoldedModel, heads: int, length: int) -> int:
    """Rows of a batch: as many as `LIVE_BYTES` hold the residual streams of, at least one, at most eight."""
    row = (1 + heads) * length * model.d_model * model.W_E.element_size()
    return int(min(8, max(1, LIVE_BYTES // row)))


def ablate_heads(
    model: FoldedModel,
    tokens: pl.DataFrame,
    rows: pl.DataFrame,
    clean: CleanRun,
    ablation: Ablation,
    heads: list[tuple[int, int]],
    shard: int,
    shards: int,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Ablate heads, one at a time, in every row of a shard.

    Args:
        tokens, rows: tables of `store.TOKENS` and `store.ROWS`.
        heads: (layer, head) of each head to ablate.

    Returns:
        the token rows of selected and control tokens (`store.ablated_tokens`), and the sums over all tokens by head
        and document (`store.document_sums`).

    Raises:
        DecompositionError: the split of self-repair does not sum to it on some token, or a value is not finite.
    """
    heads = sorted(heads)  # the order of `sweep`
    matrix = torch.from_numpy(token_matrix(tokens))
    documents = torch.from_numpy(token_matrix(tokens, "document"))[:, 1:]
    source = torch.from_numpy(rows.sort("row")["source"].to_numpy().astype(np.int64))
    selected, control = _masks(clean, heads, documents.shape)
    chosen = shard_rows(len(matrix), shard, shards)
    what = f"{model.name}: {ablation} ablation, shard {shard + 1}/{shards}"
    progress = Progress(what, len(chosen) * documents.shape[1])
    kept = [store.empty(store.ablated_tokens(model.n_layers))]  # all there is in a shard without rows
    sums = _DocumentSums(len(heads), model.n_layers, documents[chosen].unique())
    means = clean.means.to(model.device)
    batch_rows = rows_at_once(model, len(heads), documents.shape[1])
    for batch, m in sweep_rows(model, matrix, source, chosen, ablation, heads, means, batch_rows):
        values = _quantities(m)
        sums.add(values, documents[batch])
        keep = selected[:, batch] | control[batch]
        kept.append(_token_rows(values, m, keep, selected[:, batch], control[batch], batch, documents[batch], heads))
        progress.advance(len(batch) * documents.shape[1])
    return pl.concat(kept), sums.table(heads)


def _masks(
    clean: CleanRun, heads: list[tuple[int, int]], shape: tuple[int, int]
) -> tuple[Bool[Tensor, "head row pos"], Bool[Tensor, "row pos"]]:
    selected = torch.zeros(len(heads), *shape, dtype=torch.bool)
    by_head = clean.selected.partition_by("layer", "head", as_dict=True)
    for index, head in enumerate(heads):
        chosen = by_head[head]
        selected[index, chosen["row"].to_torch().long(), chosen["pos"].to_torch().long()] = True
    control = torch.from_numpy(clean.tokens.sort("row", "pos")["control"].to_numpy().copy()).view(shape)
    return selected, control


def _quantities(m: Measurement) -> dict[str, Float[Tensor, "head *layer row pos"]]:
    """The columns of `store.EFFECTS`."""
    return {
        "direct_effect": m.direct_effect,
        "ablated_direct_effect": m.direct_effect + m.delta_direct_effect,
        "delta_logit": m.delta_logit,
        "self_repair": m.self_repair,
        "repair_norm": m.repair_norm,
        "repair_attention": m.repair_attention.sum(1),
        "repair_mlp": m.repair_mlp.sum(1),
        "repair_attention_by_layer": m.repair_attention,
        "repair_mlp_by_layer": m.repair_mlp,
    }


def _token_rows(
    values: dict[str, Float[Tensor, "head *layer row pos"]],
    m: Measurement,
    keep: Bool[Tensor, "head row pos"],
    selected: Bool[Tensor, "head row pos"],
    control: Bool[Tensor, "row pos"],
    batch: Int[Tensor, " row"],
    documents: Int[Tensor, "row pos"],
    heads: list[tuple[int, int]],
) -> pl.DataFrame:
    run, row, pos = keep.nonzero(as_tuple=True)
    place = torch.tensor(heads)[run]
    at = tuple(index.to(m.logit.device) for index in (run, row, pos))
    columns = {
        "layer": place[:, 0],
        "head": place[:, 1],
        "row": batch[row],
        "pos": pos,
        "document": documents[row, pos],
        "selected": selected[run, row, pos],
        "control": control[row, pos],
        "logit": m.logit[at[1:]],
        "ablated_logit": m.logit[at[1:]] + m.delta_logit[at],
        "scale": m.scale[at[1:]],
        "ablated_scale": m.ablated_scale[at],
    }
    for name, value in values.items():
        columns[name] = value.movedim(1, -1)[at] if value.ndim == 4 else value[at]
    return store.frame({n: c.cpu().numpy() for n, c in columns.items()}, store.ablated_tokens(m.repair_mlp.shape[1]))


class _DocumentSums:
    """Sums over all tokens, in float64, by head and document."""

    def __init__(self, heads: int, n_layers: int, documents: Int[Tensor, " document"]) -> None:
        self.documents = documents
        self.n = torch.zeros(len(documents), dtype=torch.long)
        self.n_layers = n_layers
        self.sums: dict[str, Float[Tensor, "head document *layer"]] = {}
        for name in (*store.EFFECTS, *store.CLIPPED):
            self.sums[name] = torch.zeros(heads, len(documents), dtype=torch.float64)
        for name in store.by_layer(n_layers):
            self.sums[name] = torch.zeros(heads, len(documents), n_layers, dtype=torch.float64)

    def add(self, values: dict[str, Float[Tensor, "head *layer row pos"]], documents: Int[Tensor, "row pos"]) -> None:
        index = torch.searchsorted(self.documents, documents.flatten())
        self.n += torch.bincount(index, minlength=len(self.documents))
        effect = values["direct_effect"]
        for name in store.CLIPPED:
            share = (values[name.removeprefix("clipped_")] / effect).clamp(0, 1)
            self._add(name, torch.where(effect == 0, 0, share), index)
        for name, value in values.items():
            self._add(name, value.movedim(1, -1) if value.ndim == 4 else value, index)

    def _add(self, name: str, value: Float[Tensor, "head row pos *layer"], index: Int[Tensor, " token"]) -> None:
        self.sums[name].index_add_(1, index, value.flatten(1, 2).double().cpu())

    def table(self, heads: list[tuple[int, int]]) -> pl.DataFrame:
        count = len(self.documents)
        columns = {
            "layer": np.repeat([layer for layer, _ in heads], count),
            "head": np.repeat([head for _, head in heads], count),
            "document": np.tile(self.documents.numpy(), len(heads)),
            "n": np.tile(self.n.numpy(), len(heads)),
        }
        columns |= {name: total.flatten(0, 1).numpy() for name, total in self.sums.items()}
        return store.frame(columns, store.document_sums(self.n_layers))
