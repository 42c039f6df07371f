"""Which tokens a head promotes and suppresses: its direct effects on the whole vocabulary, on its top tokens."""

from pathlib import Path

import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from selfrepair.ablation.memory import chunk_tokens
from selfrepair.ablation.program import Machine
from selfrepair.ablation.schema import LENS
from selfrepair.ablation.selection import selected_tokens
from selfrepair.core.progress import Progress
from selfrepair.core.tables import frame, write_parquet
from selfrepair.models.folded import FoldedModel
from selfrepair.tokens.rows import token_matrix

LISTED = 10  # tokens of either sign


@torch.no_grad()
def mean_effects(
    model: FoldedModel, tokens: pl.DataFrame, clean_tokens: pl.DataFrame, selected: pl.DataFrame
) -> Float[Tensor, "layer n_heads d_vocab"]:
    """Direct effect of each head on each token's logit, averaged over the head's top tokens (the logit lens of a head).

    Direct effects are linear in z / scale, so its average alone is multiplied with `W_O` and `W_U`.

    Args:
        tokens: rows of `TOKENS`.
        clean_tokens: rows of `CLEAN_TOKENS`, for the clean scale.
        selected: rows of `SELECTED`.

    Returns:
        logits; they sum to zero over the vocabulary.
    """
    matrix = torch.from_numpy(token_matrix(tokens))
    length = matrix.shape[1] - 1
    scale = clean_tokens.sort("row", "pos")["scale"].to_torch().view(-1, length)
    z_mean = torch.zeros(model.n_layers, model.n_heads, model.d_head, device=model.device, dtype=torch.float64)
    count = torch.zeros(model.n_layers, model.n_heads, 1, device=model.device)
    rows = selected["row"].unique().sort().to_torch().long()
    work = len(rows) * length
    progress = Progress(f"{model.name}: promoted tokens", work, work=work * model.n_layers)
    for batch in rows.split(max(1, chunk_tokens(model) // length)):
        top = selected_tokens(selected, model.heads, batch, length).unflatten(0, (model.n_layers, model.n_heads))
        weight = (top / model.direct_scale(scale[batch])).to(model.device, torch.float64)
        count += top.sum((2, 3))[..., None].to(model.device)
        resid = model.embed(matrix[batch, :-1].to(model.device))
        for index, layer in enumerate(model.layers):
            z = model.attention_heads(layer, resid)
            z_mean[index] += torch.einsum("hrp,rphd->hd", weight[index], z.double())
            resid, _ = model.resid_post(layer, resid, model.attention_out(layer, z))
            progress.in_layer(len(batch) * length, index, model.n_layers)
    read = model.logit_direction(torch.arange(model.W_U.shape[1], device=model.device)[None])[0].T
    z_mean = (z_mean / count).to(model.dtype)
    of_layers = [
        torch.einsum("hd,hdm->hm", z_mean[index], layer.W_O.to(model.dtype)) @ read
        for index, layer in enumerate(model.layers)
    ]
    return torch.stack(of_layers)


def lens_table(effects: Float[Tensor, "layer n_heads d_vocab"]) -> pl.DataFrame:
    """Rows of `LENS`: of each head the `LISTED` tokens with the largest effect, and those with the smallest."""
    parts = []
    for sign, ordered in (("promoted", effects.sort(descending=True)), ("suppressed", effects.sort())):
        values, tokens = (part[..., :LISTED].cpu() for part in ordered)
        layer, head, place = torch.ones_like(tokens).nonzero(as_tuple=True)
        columns = {"layer": layer.numpy(), "head": head.numpy(), "sign": [sign] * len(layer), "place": place.numpy()}
        columns |= {"token": tokens.flatten().numpy(), "direct_effect": values.flatten().numpy()}
        parts.append(frame(columns, LENS))
    return pl.concat(parts)


def measure_lens(model: Path, tokens: Path, clean: Path, output: Path, machine: Machine = Machine()) -> None:
    """Find the tokens whose logits each head raises and lowers most, on its top tokens.

    Args:
        model: folder of the folded model.
        tokens: tokens.parquet.
        clean: folder that measure_clean wrote.
        output: Parquet file to write.
    """
    folded, record = machine.load(model)
    clean_tokens, selected = (pl.read_parquet(clean / f"{name}.parquet") for name in ("tokens", "selected"))
    write_parquet(lens_table(mean_effects(folded, pl.read_parquet(tokens), clean_tokens, selected)), output, record)
