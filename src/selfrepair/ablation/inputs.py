"""The tables of a run as tensors, as the measuring modules read them."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from jaxtyping import Int
from torch import Tensor

from selfrepair.tokens.rows import token_matrix


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
    """Bring tables of `TOKENS` and `ROWS` into this form."""
    return Inputs(
        tokens=torch.from_numpy(token_matrix(tokens)),
        documents=torch.from_numpy(token_matrix(tokens, "document"))[:, 1:],
        source=torch.from_numpy(rows.sort("row")["source"].to_numpy().astype(np.int64)),
    )
