"""Effects of ablating a head, computed anew from Hugging Face's own model in float64, for checks of stored results.

Independent of the measurement: nothing is folded, no module of transformer_lens or of the sweep is used, each ablation
is a forward pass of the whole unfolded model with one head's output replaced before the output projection, logits are
the model's own, and the norm's part of self-repair is what the others leave over (experiments.md a.6 to a.9). Shared
with the measurement are the definitions, the weights, the tokens and the pairing of rows.

A direct effect is read off by v = gain * (column of the unembedding - mean over the vocabulary), for LayerNorm without
its mean over d_model, divided by the clean scale; as published, by the raw column. The value bias, to which folding
adds what the bias of the norm before it contributes, passes attention unchanged, so each block shows it where it reads
zeros.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor

from selfrepair.ablation.replacements import Ablation
from selfrepair.core.progress import Progress
from selfrepair.models.weight_headers import INDEX, WRAPPED, read_header, weight_files

OUTPUT_PROJECTIONS = ("c_proj", "dense", "o_proj", "out_proj")  # of attention, by family
FINAL_NORMS = ("ln_f", "final_layer_norm", "norm")
Replace = tuple[int, int, Float[Tensor, "pos d_head"]]  # layer, head, what its output becomes


@dataclass(frozen=True)
class ForwardPass:
    """What a forward pass of a row showed; `pos` is the predicting position.

    Attributes:
        logit: of the correct next token.
        attention, mlp: what each layer wrote to the stream.
        resid: the stream before the final norm.
        z: heads' outputs before the projection, value bias included.
    """

    logit: Float[Tensor, " pos"]
    attention: Float[Tensor, "layer pos d_model"]
    mlp: Float[Tensor, "layer pos d_model"]
    resid: Float[Tensor, "pos d_model"]
    z: Float[Tensor, "layer pos head d_head"]


def _hugging_face(folder: Path) -> torch.nn.Module:
    """Hugging Face's model in float64, of the files that were measured; a pickle beside them is never read."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM

    files = weight_files(folder)
    usual = files == [folder / "model.safetensors"] or (folder / INDEX).is_file()
    if usual and not any(map(WRAPPED.match, read_header(files[0]))):
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float64, local_files_only=True, use_safetensors=True
        )
    else:  # names that Hugging Face would pass over, for a pickle or for random weights
        tensors = {WRAPPED.sub("", name): tensor for file in files for name, tensor in load_file(file).items()}
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        own = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        model = own.from_pretrained(None, config=config, state_dict=tensors, dtype=torch.float64)
    return model.eval()


class Recomputation:
    """A model of a Hugging Face directory, run row by row.

    Args:
        authors_units: direct effects and logits in the units of the authors' Llama (experiments.md pitfall:llama-norm).
    """

    @torch.no_grad()
    def __init__(self, folder: Path, authors_units: bool = False) -> None:
        self.model = _hugging_face(folder)
        self.authors_units = authors_units
        self.n_heads = self.model.config.num_attention_heads
        named = dict(self.model.named_modules())
        projections = [
            name
            for name in named
            if name.rsplit(".", 1)[-1] in OUTPUT_PROJECTIONS and ("attn" in name or "attention" in name)
        ]
        self.projections = [named[name] for name in projections]
        self.blocks = [named[re.sub(r"(\.\d+)\..*", r"\1", name, count=1)] for name in projections]
        outside = {name: module for name, module in named.items() if not re.search(r"\.\d+(\.|$)", name)}
        self.norm = next((module for name, module in outside.items() if name.rsplit(".", 1)[-1] in FINAL_NORMS), None)
        self.value_bias = self._value_bias()

    @property
    def centred(self) -> bool:
        """Whether the final norm subtracts the mean (LayerNorm), or does not (RMSNorm)."""
        return isinstance(self.norm, torch.nn.LayerNorm)

    @torch.no_grad()
    def run(self, tokens: Int[Tensor, " length"], replace: Replace | None = None) -> ForwardPass:
        """Run a row, with a head's output replaced or as it is."""
        inputs, outputs, z, attention, resid = [], [], [], [], []

        def project(layer: int) -> Callable[..., tuple[Tensor]]:
            def enter(module: torch.nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
                heads = args[0][0].unflatten(-1, (self.n_heads, -1))
                if replace is not None and replace[0] == layer:
                    heads = heads.clone()
                    heads[:, replace[1]] = replace[2]
                z.append(heads)
                return (heads.flatten(-2)[None],)

            return enter

        handles = [p.register_forward_pre_hook(project(layer)) for layer, p in enumerate(self.projections)]
        handles += [p.register_forward_hook(lambda m, a, out: attention.append(out[0])) for p in self.projections]
        for block in self.blocks:
            enters = block.register_forward_pre_hook(
                lambda m, args, kwargs: inputs.append((args[0] if args else kwargs["hidden_states"])[0]),
                with_kwargs=True,
            )
            leaves = block.register_forward_hook(lambda m, a, out: outputs.append(_first(out)[0]))
            handles += [enters, leaves]
        last = self.norm or self.model.get_output_embeddings()
        handles.append(last.register_forward_pre_hook(lambda m, args: resid.append(args[0][0])))
        try:
            logits = self.model(tokens[None], use_cache=False).logits[0, :-1]
        finally:
            for handle in handles:
                handle.remove()
        if not self.authors_units:
            logits = logits - logits.mean(-1, keepdim=True)
        wrote = torch.stack(attention)[:, :-1]
        return ForwardPass(
            logit=logits.gather(-1, tokens[1:, None])[:, 0],
            attention=wrote,
            mlp=(torch.stack(outputs) - torch.stack(inputs))[:, :-1] - wrote,
            resid=resid[0][:-1],
            z=torch.stack(z),
        )

    @torch.no_grad()
    def mean_z(self, rows: Int[Tensor, "row length"]) -> Float[Tensor, "layer head d_head"]:
        """Heads' outputs, value bias included, averaged over all predicting positions of all rows."""
        progress = Progress("mean activations by Hugging Face", rows[:, 1:].numel())
        total = torch.zeros_like(self.value_bias)
        for row in rows:
            total += self.run(row).z[:, :-1].sum(1)
            progress.advance(len(row) - 1)
        return total / rows[:, 1:].numel()

    @torch.no_grad()
    def effects(
        self,
        tokens: Int[Tensor, " length"],
        source: Int[Tensor, " length"],
        layer: int,
        head: int,
        ablation: Ablation,
        mean_z: Float[Tensor, "layer head d_head"] | None = None,
    ) -> dict[str, Float[Tensor, " pos *layer"]]:
        """Ablate a head in a row; return the measured columns of `ablated_tokens`.

        Args:
            source: the row that corrupted activations come from.
            mean_z: of `mean_z`; read by `mean` only.
        """
        clean = self.run(tokens)
        old, bias = clean.z[layer, :, head], self.value_bias[layer, head]
        match ablation:
            case "resample":
                new = self.run(source).z[layer, :, head]
            case "zero":
                new = bias.expand_as(old)
            case "mean":
                assert mean_z is not None
                new = mean_z[layer, head].expand_as(old)
        ablated = self.run(tokens, (layer, head, new))
        scale = self._scale(clean.resid)
        v = self._reading(tokens[1:]) / (1.0 if self.authors_units else scale[:, None])

        def written(z: Float[Tensor, "pos d_head"]) -> Float[Tensor, "pos d_model"]:
            return self.head_result(layer, head, z)[:-1]

        own, new_own = ((written(z - bias) * v).sum(-1) for z in (old, new))
        attention = ((ablated.attention - clean.attention) * v).sum(-1)
        attention[layer] -= new_own - own  # what is left is of the other heads of its layer
        mlp = ((ablated.mlp - clean.mlp) * v).sum(-1)
        delta_logit = ablated.logit - clean.logit
        self_repair = delta_logit - (new_own - own)
        return {
            "logit": clean.logit,
            "ablated_logit": ablated.logit,
            "scale": scale,
            "ablated_scale": self._scale(ablated.resid),
            "own_scale": self._scale(clean.resid + written(new - old)),
            "direct_effect": own,
            "ablated_direct_effect": new_own,
            "delta_logit": delta_logit,
            "self_repair": self_repair,
            "repair_norm": self_repair - attention.sum(0) - mlp.sum(0),
            "repair_attention": attention.sum(0),
            "repair_mlp": mlp.sum(0),
            "repair_attention_by_layer": attention.T,
            "repair_mlp_by_layer": mlp.T,
        }

    def _scale(self, resid: Float[Tensor, "pos d_model"]) -> Float[Tensor, " pos"]:
        """What the final norm divides by; 1 where there is none."""
        if self.norm is None:
            return torch.ones_like(resid[:, 0])
        if self.centred:
            resid = resid - resid.mean(-1, keepdim=True)
        eps = getattr(self.norm, "eps", None) or self.norm.variance_epsilon
        return (resid.square().mean(-1) + eps).sqrt()

    def _reading(self, correct: Int[Tensor, " pos"]) -> Float[Tensor, "pos d_model"]:
        """What a direct effect is a dot product with, before the division by the scale."""
        unembedding = self.model.get_output_embeddings().weight
        if self.authors_units:
            return unembedding[correct]
        v = unembedding[correct] - unembedding.mean(0)
        if self.norm is not None and self.norm.weight is not None:
            v = v * self.norm.weight
        return v - v.mean(-1, keepdim=True) if self.centred else v

    def head_result(self, layer: int, head: int, z: Float[Tensor, "pos d_head"]) -> Float[Tensor, "pos d_model"]:
        """What a head writes to the stream, without the projection's bias."""
        project = self.projections[layer]
        alone = z.new_zeros(1, len(z), self.n_heads, z.shape[-1])
        alone[0, :, head] = z
        return (project(alone.flatten(-2)) - project(torch.zeros_like(alone).flatten(-2)))[0]

    def _value_bias(self) -> Float[Tensor, "layer head d_head"]:
        """What each head puts out if its block reads zeros, so that attention reads the bias of the norm before it."""

        def zeros(module: torch.nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            if args:
                return (torch.zeros_like(args[0]), *args[1:]), kwargs
            return args, kwargs | {"hidden_states": torch.zeros_like(kwargs["hidden_states"])}

        handles = [block.register_forward_pre_hook(zeros, with_kwargs=True) for block in self.blocks]
        bias = self.run(torch.zeros(2, dtype=torch.long)).z[:, 0]
        for handle in handles:
            handle.remove()
        return bias


def _first(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """A block's stream: what it returns, or the first part of it."""
    return output if isinstance(output, Tensor) else output[0]
