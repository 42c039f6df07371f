"""How fast small models are trained: the package's step beside a plain loop over Hugging Face's GPT-2."""

import statistics
import time

import polars as pl
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from selfrepair.benchmark.schema import TRAINING
from selfrepair.core.tables import frame
from selfrepair.models.decoder import register
from selfrepair.models.families import DECODER
from selfrepair.models.train import Training, make_optimiser, take_step

LAYERS, HEADS, WIDTH, VOCABULARY = 4, 8, 128, 2048  # of the base of config/studies/architecture.yaml
ROWS, LENGTH = 16, 128
RATE = 1e-3


def training(steps: int, rounds: int) -> pl.DataFrame:
    """Time both on the same random tokens, one after the other in every round (`TRAINING`).

    Args:
        steps: of each in a round.
        rounds: over which medians are taken.
    """
    register()
    torch.manual_seed(1)
    settings = Training({}, 2, ROWS, LENGTH, learning_rate=RATE, warmup_steps=1, weight_decay=0.1, seed=1)
    rows = torch.randint(VOCABULARY, (ROWS, LENGTH))
    size = {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "hidden_size": WIDTH}
    ours = _made(DECODER, **size, intermediate_size=4 * WIDTH, max_position_embeddings=LENGTH)
    optimiser = make_optimiser(ours, settings)
    gpt2 = _made(
        "gpt2",
        n_layer=LAYERS,
        n_head=HEADS,
        n_embd=WIDTH,
        n_positions=LENGTH,
        tie_word_embeddings=False,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    plain = torch.optim.AdamW(gpt2.parameters(), lr=RATE)

    def plain_step() -> None:
        loss = gpt2(rows, labels=rows).loss
        plain.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(gpt2.parameters(), 1.0)
        plain.step()

    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    for round_ in range(rounds + 1):
        for name, step in (("plain", plain_step), ("ours", lambda: take_step(ours, optimiser, rows))):
            start = time.perf_counter()
            for _ in range(steps):
                step()
            if round_:  # the first warms up
                seconds[name].append(time.perf_counter() - start)
    took = {name: statistics.median(taken) for name, taken in seconds.items()}
    parameters = sum(p.numel() for p in ours.parameters())
    row: dict[str, Tensor | float | int] = {"parameters": parameters, "threads": torch.get_num_threads()}
    row |= {f"{name}_rate": steps * rows.numel() / of for name, of in took.items()}
    return frame({name: [value] for name, value in (row | {"ratio": took["plain"] / took["ours"]}).items()}, TRAINING)


def _made(family: str, **fields: object) -> torch.nn.Module:
    config = AutoConfig.for_model(family, vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0, **fields)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).train()
