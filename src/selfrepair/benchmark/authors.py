"""The procedure of the paper's authors, head by head, with transformer_lens's hooks (experiments.md a.6 to a.9, e).

Every head takes four forward passes: the activations of all components and the logits come from two separate patched
runs, and before each of them the corrupted rows are run again, with everything cached. From the cache the output of
every head of the model is stacked, scaled as a whole and projected.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.benchmark.effects import Effects

T = TypeVar("T")


class AuthorsProcedure:
    """One batch of rows. `bridge` is folded and centred, without value biases; creating it does the clean pass."""

    @torch.no_grad()
    def __init__(self, bridge: torch.nn.Module, tokens: Int[Tensor, "row pos"], source: Int[Tensor, " row"]) -> None:
        self.bridge, self.tokens, self.corrupted = bridge, tokens, tokens[source]
        self.directions = bridge.W_U.T[tokens[:, 1:]]
        logits, self.clean = bridge.run_with_cache(tokens)
        self.logit = self._correct(logits)
        self.heads, self.mlps = self._direct_effects(self.clean)

    @torch.no_grad()
    def ablate(self, layer: int, head: int) -> Effects:
        """Replace the head's output by that of the corrupted rows; the norm's part is what the others leave over."""
        cache = self._patched(layer, head, lambda: self.bridge.run_with_cache(self.tokens)[1])
        heads, mlps = self._direct_effects(cache)
        delta_logit = self._patched(layer, head, lambda: self._correct(self.bridge(self.tokens))) - self.logit
        delta = (heads - self.heads)[layer, head]
        repair_attention = (heads - self.heads).sum((0, 1)) - delta
        repair_mlp = (mlps - self.mlps).sum(0)
        return Effects(
            direct_effect=self.heads[layer, head],
            ablated_direct_effect=heads[layer, head],
            delta_logit=delta_logit,
            repair_attention=repair_attention,
            repair_mlp=repair_mlp,
            repair_norm=delta_logit - delta - repair_attention - repair_mlp,
        )

    def _patched(self, layer: int, head: int, run: Callable[[], T]) -> T:
        """Run the corrupted rows, then `run` with the head's z taken from them."""
        name = f"blocks.{layer}.attn.hook_z"
        _, corrupted = self.bridge.run_with_cache(self.corrupted)

        def replace(z: Float[Tensor, "row pos head d_head"], hook: Any) -> Float[Tensor, "row pos head d_head"]:
            z[:, :, head] = corrupted[name][:, :, head]
            return z

        with self.bridge.hooks(fwd_hooks=[(name, replace)]):
            return run()

    def _direct_effects(self, cache: Any) -> tuple[Float[Tensor, "layer head row pos"], Float[Tensor, "layer row pos"]]:
        """Direct effects of every head and every MLP, always with the clean scale."""
        n_layers = self.bridge.cfg.n_layers
        heads = self._project(cache.stack_head_results(layer=-1))
        mlps = self._project(torch.stack([cache[f"blocks.{i}.hook_mlp_out"] for i in range(n_layers)]))
        return heads.unflatten(0, (n_layers, -1)), mlps

    def _project(self, stack: Float[Tensor, "component row pos d_model"]) -> Float[Tensor, "component row scored"]:
        scaled = self.clean.apply_ln_to_stack(stack, layer=-1)[:, :, :-1]
        return torch.einsum("crpd,rpd->crp", scaled, self.directions)

    def _correct(self, logits: Float[Tensor, "row pos vocab"]) -> Float[Tensor, "row scored"]:
        return logits[:, :-1].gather(-1, self.tokens[:, 1:, None])[..., 0]
