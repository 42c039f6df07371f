"""What every method finds of one ablated head, and the model that the hook methods run."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from selfrepair.ablation.effects import Measurement


@dataclass(frozen=True)
class Effects:
    """Effects of ablating one head, per token, in logits (experiments.md a.6 to a.9).

    Attributes:
        direct_effect: of the head, clean pass, clean scale.
        ablated_direct_effect: of the head, ablated pass, clean scale.
        delta_logit: ablated minus clean logit of the correct next token.
        repair_attention: change of the direct effects of all other heads together.
        repair_mlp: change of the direct effects of all MLPs together.
        repair_norm: effect of the change of the final scale.
    """

    direct_effect: Float[Tensor, "row pos"]
    ablated_direct_effect: Float[Tensor, "row pos"]
    delta_logit: Float[Tensor, "row pos"]
    repair_attention: Float[Tensor, "row pos"]
    repair_mlp: Float[Tensor, "row pos"]
    repair_norm: Float[Tensor, "row pos"]

    @property
    def self_repair(self) -> Float[Tensor, "row pos"]:
        return self.delta_logit - (self.ablated_direct_effect - self.direct_effect)


def effects_of(m: Measurement, layer: int, head: int) -> Effects:
    """The effects of one head, from a measurement of all."""
    return Effects(
        direct_effect=m.direct_effect[layer, head],
        ablated_direct_effect=m.direct_effect[layer, head] + m.delta_direct_effect[layer, head],
        delta_logit=m.delta_logit[layer, head],
        repair_attention=m.repair_attention[layer, head].sum(0),
        repair_mlp=m.repair_mlp[layer, head].sum(0),
        repair_norm=m.repair_norm[layer, head],
    )


def boot_bridge(folder: Path) -> torch.nn.Module:
    """The model of a directory in transformer_lens, folded and centred as in the paper, on the CPU in float32."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    hf_model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
    ).eval()
    # The bridge wants a tokenizer; token ids are there already.
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"?": 0}, unk_token="?")), eos_token="?")
    bridge = TransformerBridge.boot_transformers(
        str(folder), hf_model=hf_model, tokenizer=tokenizer, device="cpu", dtype=torch.float32
    )
    bridge.enable_compatibility_mode(disable_warnings=True)
    return bridge
