"""A GPT-2 of two layers whose weights are set by hand, so that the self-repair of every head follows on paper.

docs/known_answer.md says in words what is built here; `analysis.known_answer` works out what must be measured.
The stream has 15 coordinates; each stands in it twice, the second time with the other sign, so that its mean is zero
and LayerNorm centres nothing. Whatever reads the stream reads the first copy.
"""

import math
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from selfrepair.core.files import whole_folder
from selfrepair.core.tables import write_parquet
from selfrepair.models.known_answer import (
    BACKUP,
    BIAS,
    BIT,
    BUILDER,
    CONSTANT,
    ERASED,
    ERASER,
    FOUND,
    LATE,
    LETTERS,
    N_HEADS,
    NEURON,
    PLACE,
    POSITIONS,
    RADIUS,
    START,
    STEP,
    WIDTH,
    WRITTEN,
    bits_of,
)
from selfrepair.tokens.tokenizer import END_OF_TEXT, save_tokenizer

SHARP = 40.0  # of queries and keys: other positions get less than 1e-10 of the attention
DOCUMENTS = 160
SEED = 1


def build_known_answer(model: Path, corpus: Path) -> None:
    """Write the model as a Hugging Face directory, and a text of letters on which it is measured.

    Args:
        model: directory to write.
        corpus: Parquet file to write.
    """
    with whole_folder(model) as folder:
        built = known_answer()
        built.config.save_pretrained(folder)
        save_file(dict(built.named_parameters()), folder / "model.safetensors", {"format": "pt"})
        save_tokenizer(tokenizer(), folder)
    write_parquet(text_of_letters(), corpus)


def tokenizer() -> Tokenizer:
    """One token for each letter, and the end of text."""
    vocabulary = {letter: index for index, letter in enumerate([*LETTERS, END_OF_TEXT])}
    built = Tokenizer(models.WordLevel(vocabulary, unk_token=END_OF_TEXT))
    built.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    built.decoder = decoders.Fuse()
    built.add_special_tokens([END_OF_TEXT])
    return built


def text_of_letters() -> pl.DataFrame:
    """Documents of random letters; each bit keeps its value from letter to letter, more often in some documents."""
    generator = np.random.default_rng(SEED)
    documents = []
    for index in range(DOCUMENTS):
        turns = np.where(generator.random((generator.integers(20, 60), 6)) < generator.uniform(0.02, 0.2), -1, 1)
        numbers = (turns.cumprod(0) * generator.choice([-1, 1], 6) > 0) @ 2 ** np.arange(5, -1, -1)
        documents.append({"document": f"{index:03d}", "text": "".join(LETTERS[n] for n in numbers)})
    return pl.DataFrame(documents)


@torch.no_grad()
def known_answer() -> GPT2LMHeadModel:
    """The model, its weights set."""
    config = GPT2Config(
        vocab_size=len(LETTERS) + 1,
        n_positions=POSITIONS,
        n_embd=2 * WIDTH,
        n_layer=2,
        n_head=N_HEADS,
        n_inner=8,
        activation_function="relu",
        layer_norm_epsilon=0.0,
        tie_word_embeddings=False,
        bos_token_id=len(LETTERS),
        eos_token_id=len(LETTERS),
    )
    model = GPT2LMHeadModel(config).eval()
    for name, parameter in model.named_parameters():
        parameter.fill_(1.0 if "ln_" in name and name.endswith("weight") else 0.0)
    bits = torch.from_numpy(bits_of(np.arange(len(LETTERS) + 1))).float()
    angle = 2 * math.pi / POSITIONS * torch.arange(POSITIONS)
    embedding, places = torch.zeros(len(bits), WIDTH), torch.zeros(POSITIONS, WIDTH)
    embedding[:, CONSTANT] = START
    embedding[:, BIT:FOUND] = bits
    places[:, PLACE], places[:, PLACE + 1] = RADIUS * angle.cos(), RADIUS * angle.sin()
    model.transformer.wte.weight.copy_(_twice(embedding))
    model.transformer.wpe.weight.copy_(_twice(places))
    first, last = model.transformer.h
    for head in range(5):  # heads of even number look at the token before, the others at the token itself
        _head(first.attn, head, 1 - head % 2, {BIT + head: 1.0}, {FOUND + head: WRITTEN})
    _head(last.attn, 1, 0, {BIT + 1: WRITTEN, FOUND + 1: -1.0}, {FOUND + 1: BACKUP})
    _head(last.attn, 2, 0, {FOUND + 2: 1.0}, {FOUND + 2: -ERASER})
    _head(last.attn, 3, 0, {FOUND + 3: 1.0}, {FOUND + 3: BUILDER})
    _head(last.attn, 5, 0, {BIT + 5: 1.0}, {FOUND + 5: LATE, CONSTANT: 2 * STEP})
    last.mlp.c_fc.weight[FOUND + 4, NEURON] = 1.0
    last.mlp.c_proj.weight[NEURON] = _twice(_at({FOUND + 4: -ERASED}))
    model.transformer.ln_f.bias[FOUND] = BIAS
    model.lm_head.weight[:, FOUND:WIDTH] = bits
    return model


def _head(attention: torch.nn.Module, head: int, back: int, read: dict[int, float], write: dict[int, float]) -> None:
    """Set a head that looks `back` positions back, reads one number there, and writes it with some weights.

    Query and key agree by RADIUS^2 (cos(angle between places) - cos(half a step)): positive at one position alone.
    """
    width, d_head = 2 * WIDTH, 2 * WIDTH // N_HEADS
    step = 2 * math.pi / POSITIONS
    query, key, value = (attention.c_attn.weight[:, part * width + head * d_head :] for part in range(3))
    turn = torch.tensor([[math.cos(step), -math.sin(step)], [math.sin(step), math.cos(step)]]).matrix_power(back)
    query[PLACE:CONSTANT, :2], key[PLACE:CONSTANT, :2] = SHARP * turn, SHARP * torch.eye(2)
    query[CONSTANT, 2], key[CONSTANT, 2] = -SHARP * math.cos(step / 2) * (RADIUS / START) ** 2, SHARP
    value[:WIDTH, 0] = _at(read)
    attention.c_proj.weight[head * d_head] = _twice(_at(write))


def _at(weights: dict[int, float]) -> Float[Tensor, " coordinate"]:
    coordinates = torch.zeros(WIDTH)
    for coordinate, weight in weights.items():
        coordinates[coordinate] = weight
    return coordinates


def _twice(coordinates: Float[Tensor, "*rows coordinate"]) -> Float[Tensor, "*rows d_model"]:
    return torch.cat([coordinates, -coordinates], dim=-1)
