"""Tiny random models of every supported family, loaded once per session, and the real ones where they are at hand."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from jaxtyping import Int, install_import_hook
from torch import Tensor

# Calls into these modules check the shapes that their annotations promise.
CHECKED = (
    "ablation.shard",
    "ablation.clean",
    "ablation.clean_run",
    "ablation.inputs",
    "tokens.corpora",
    "tokens.stdlib_corpus",
    "ablation.iterative",
    "ablation.loss",
    "ablation.interventions",
    "ablation.effects",
    "ablation.lens",
    "ablation.memory",
    "models.checkpoint",
    "models.fold",
    "models.folded",
    "models.folded_files",
    "models.fused",
    "models.load",
    "models.precision",
    "ablation.replacements",
    "ablation.jobs",
    "ablation.selection",
    "ablation.sweep",
)
with install_import_hook([f"selfrepair.{module}" for module in CHECKED], "beartype.beartype"):
    from selfrepair.ablation import shard  # noqa: F401
    from selfrepair.models import load
    from selfrepair.models.decoder import register
    from selfrepair.models.families import DECODER
    from selfrepair.models.folded import FoldedModel
    from selfrepair.tokens import stdlib_corpus  # noqa: F401
    from tests.helpers.oracle import booted

SHARED = Path(__file__).resolve().parents[2] / "shared"  # real models, texts and tokenizers; not in the repository
VOCABULARY = 97
torch.set_num_threads(1)  # the models are tiny: more threads only wait for each other
WINDOW = 5  # smaller than the rows of `rows()`
EPSILON = 0.05  # large enough for its loss to be seen

GPT2 = {"model_type": "gpt2", "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
WIDE = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
GROUPED = WIDE | {"num_key_value_heads": 2}
ARCHITECTURES = {
    "gpt2": GPT2,
    "gpt2_untied": GPT2
    | {"tie_word_embeddings": False, "scale_attn_by_inverse_layer_idx": True, "layer_norm_epsilon": EPSILON},
    "neox_parallel": WIDE | {"model_type": "gpt_neox", "rotary_pct": 0.5},
    "neox_sequential": WIDE | {"model_type": "gpt_neox", "use_parallel_residual": False},
    "llama_gqa": GROUPED | {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "llama_mha": WIDE | {"model_type": "llama", "num_key_value_heads": 4, "tie_word_embeddings": True},
    "opt": {
        "model_type": "opt",
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "ffn_dim": 48,
        "max_position_embeddings": 64,
    },
    "gpt_neo": {
        "model_type": "gpt_neo",
        "hidden_size": 32,
        "num_layers": 3,
        "num_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        "attention_types": [[["global", "local", "global"], 1]],
        "window_size": WINDOW,
    },
    "mistral": GROUPED | {"model_type": "mistral", "sliding_window": WINDOW, "rms_norm_eps": EPSILON},
    "qwen2": GROUPED
    | {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    "selfrepair_rms": GROUPED
    | {"model_type": DECODER, "norm": "rms", "gated": True, "hidden_act": "silu", "use_parallel_residual": True},
    "selfrepair_bare": WIDE | {"model_type": DECODER, "final_norm": False, "rotary": True, "tie_word_embeddings": True},
}


class Zoo:
    """Random models by the names of `ARCHITECTURES`: Hugging Face directories and their folded form."""

    architectures = ARCHITECTURES

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder, self.folded = cache(self._folder), cache(self._folded)

    def _folder(self, name: str) -> Path:
        from transformers import AutoConfig, AutoModelForCausalLM

        register()
        config = AutoConfig.for_model(**ARCHITECTURES[name], vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        generator = torch.Generator().manual_seed(sorted(ARCHITECTURES).index(name))
        for key, parameter in model.named_parameters():
            gain = parameter.ndim == 1 and "bias" not in key
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator) + float(gain)
        model.save_pretrained(self.root / name)
        return self.root / name

    def _folded(self, name: str) -> FoldedModel:
        return load.load_model(self.folder(name))

    def hugging_face(self, name: str, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
        """A fresh Hugging Face model: its owner may change it."""
        from transformers import AutoModelForCausalLM

        register()
        return AutoModelForCausalLM.from_pretrained(self.folder(name), dtype=dtype, local_files_only=True).eval()


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session", params=list(ARCHITECTURES))
def architecture(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session", params=[name for name, it in ARCHITECTURES.items() if it["model_type"] != DECODER])
def lens_architecture(request: pytest.FixtureRequest) -> str:
    """One that transformer_lens knows."""
    return request.param


@pytest.fixture(scope="session")
def bridge(zoo: Zoo) -> Callable[[str], torch.nn.Module]:
    """Models in transformer_lens by name."""
    return cache(lambda name: booted(zoo.folder(name), zoo.hugging_face(name)))


@pytest.fixture
def rows() -> Int[Tensor, "row pos"]:
    """Five rows of twelve tokens after the same first token, as in packed rows; longer than any window."""
    body = torch.randint(1, VOCABULARY, (5, 11), generator=torch.Generator().manual_seed(7))
    return torch.cat([torch.zeros(5, 1, dtype=torch.long), body], dim=1)


@pytest.fixture
def source() -> Int[Tensor, " row"]:
    return torch.tensor([3, 0, 4, 1, 2])


def shared(path: str) -> Path:
    """A file or folder that lies beside the repository, or a skip that says what is missing."""
    found = SHARED / path
    if not found.exists():
        pytest.skip(f"{found} is not here: it lies beside the repository only where it was put there")
    return found


@pytest.fixture(scope="session", name="shared")
def _shared() -> Callable[[str], Path]:
    return shared
