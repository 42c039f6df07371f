"""The tables of a run as tensors, as the measuring modules read them."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from selfrepair.tokens import token_matrix


@dataclass(frozen=True)
class Inputs:
    """Rows of tokens and what belongs to them; `pos` is the predicting position, of which there is one less.

    Attributes:
        documents: document of the correct next token.
        source: for each row, the row that its corrupted activations come from.
    """

    tokens: Int[Tensor, "row length"]
    documents: Int[Tensor, "row pos"]
    source: Int[Tensor, " row"]


def read_inputs(tokens: pl.DataFrame, rows: pl.DataFrame) -> Inputs:
    """Bring tables of `schemas.TOKENS` and `schemas.ROWS` into this form."""
    return Inputs(
        tokens=torch.from_numpy(token_matrix(tokens)),
        documents=torch.from_numpy(token_matrix(tokens, "document"))[:, 1:],
        source=torch.from_numpy(rows.sort("row")["source"].to_numpy().astype(np.int64)),
    )


def selected_tokens(
    selected: pl.DataFrame, heads: list[tuple[int, int]], rows: Int[Tensor, " row"], length: int
) -> Bool[Tensor, "head row pos"]:
    """Which tokens of some rows are among each head's top tokens.

    Args:
        selected: `schemas.SELECTED`.
        rows: ascending; tokens of other rows do not count.
        length: predicting positions of a row.
    """
    found = torch.zeros(len(heads), len(rows), length, dtype=torch.bool)
    by_head = selected.filter(pl.col("row").is_in(rows.tolist())).partition_by("layer", "head", as_dict=True)
    for index, head in enumerate(heads):
        if head in by_head:
            row, pos = (by_head[head][name].to_torch().long() for name in ("row", "pos"))
            found[index, torch.searchsorted(rows, row), pos] = True
    return found
