"""Patching head by head with nothing that can be spared: one clean pass a batch, one patched pass a head.

Nothing is cached but z of the clean pass, no head's output is formed but the ablated one's, and a layer's attention and
MLP leave one dot product a token.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.benchmark.effects import Effects

Parts = dict[tuple[int, str], Tensor]  # what each layer's attention and MLP write


class LeanHooks:
    """One batch of rows. `bridge` is folded and centred, without value biases; creating it does the clean pass."""

    @torch.no_grad()
    def __init__(self, bridge: torch.nn.Module, tokens: Int[Tensor, "row pos"], source: Int[Tensor, " row"]) -> None:
        self.bridge, self.tokens, self.source = bridge, tokens, source
        self.layers = range(bridge.cfg.n_layers)
        self.v = bridge.W_U.T[tokens[:, 1:]]
        kept: dict[str, Tensor] = {}
        names = [*(f"blocks.{i}.attn.hook_z" for i in self.layers), "ln_final.hook_scale"]
        keep = [(name, lambda value, hook, name=name: kept.update({name: value})) for name in names]
        self.parts: Parts = {}
        self.logit = self._run(0, self.parts, keep)
        self.z, self.scale = kept, kept.pop("ln_final.hook_scale")[:, :-1, 0]

    @torch.no_grad()
    def ablate(self, layer: int, head: int) -> Effects:
        """Replace the head's output by that of its source row; the norm's part is what the others leave over."""
        name = f"blocks.{layer}.attn.hook_z"
        parts: Parts = {}
        clean = self.z[name][:, :, head]
        ablated = clean[self.source]

        def replace(z: Float[Tensor, "row pos head d_head"], hook: Any) -> Float[Tensor, "row pos head d_head"]:
            z = z.clone()
            z[:, :, head] = ablated
            return z

        delta_logit = self._run(layer, parts, [(name, replace)]) - self.logit
        W_O = self.bridge.blocks[layer].attn.W_O[head]
        before, after = (self._dot(z @ W_O) / self.scale for z in (clean, ablated))
        attention, mlp = (
            sum(parts[i, kind] - self.parts[i, kind] for i in self.layers[layer:]) / self.scale
            for kind in ("attn", "mlp")
        )
        attention = attention - (after - before)
        return Effects(
            direct_effect=before,
            ablated_direct_effect=after,
            delta_logit=delta_logit,
            repair_attention=attention,
            repair_mlp=mlp,
            repair_norm=delta_logit - (after - before) - attention - mlp,
        )

    def _run(self, first: int, parts: Parts, hooks: list[tuple[str, Callable]]) -> Float[Tensor, "row scored"]:
        """Run the model; return the correct logits and leave the dot products of layers from `first` on in `parts`."""

        def project(at: tuple[int, str]) -> Callable:
            return lambda written, hook: parts.update({at: self._dot(written)})

        names = [(i, kind) for i in self.layers[first:] for kind in ("attn", "mlp")]
        projections = [(f"blocks.{i}.hook_{kind}_out", project((i, kind))) for i, kind in names]
        logits = self.bridge.run_with_hooks(self.tokens, fwd_hooks=[*hooks, *projections])
        return logits[:, :-1].gather(-1, self.tokens[:, 1:, None])[..., 0]

    def _dot(self, written: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row scored"]:
        return (written[:, :-1] * self.v).sum(-1)
