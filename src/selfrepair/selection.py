"""Which tokens of a run are kept: exactly the top share of each head's direct effects, and a uniform control sample."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


class TopTokens:
    """The tokens with the largest signed direct effect of each head, found in one stream (experiments.md a.11).

    Exact, whatever the batches: of equal values the earlier token is kept. Memory holds the kept tokens and one
    batch.
    """

    def __init__(self, heads: int, count: int, device: torch.device | str = "cpu") -> None:
        self.count = count
        self.values: Float[Tensor, "head kept"] = torch.empty(heads, 0, device=device)
        self.tokens: Int[Tensor, "head kept"] = torch.empty(heads, 0, dtype=torch.long, device=device)

    def add(self, values: Float[Tensor, "head token"], first: int) -> None:
        """Take in the direct effects of the tokens `first`, `first + 1`, ..., which come after all seen before."""
        tokens = torch.arange(first, first + values.shape[1], device=values.device).expand(values.shape)
        values, tokens = torch.cat([self.values, values], dim=1), torch.cat([self.tokens, tokens], dim=1)
        order = values.sort(dim=1, descending=True, stable=True).indices[:, : self.count]
        self.values, self.tokens = values.gather(1, order), tokens.gather(1, order)


def top_count(n_tokens: int, fraction: float) -> int:
    """How many tokens are the top `fraction` of `n_tokens`: int(fraction n), at least one."""
    return max(1, int(fraction * n_tokens))


def control_sample(n_tokens: int, count: int, seed: int) -> Int[np.ndarray, " token"]:
    """Draw `count` of `n_tokens` tokens uniformly without replacement (all, if there are fewer), sorted."""
    generator = np.random.default_rng([seed, 1])
    return np.sort(generator.permutation(n_tokens)[: min(count, n_tokens)])
