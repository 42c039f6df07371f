"""Train a small language model from scratch on a corpus, resumably, and save it as a Hugging Face directory.

The batch of a step depends on the seed and the step alone, so a run that was killed and resumed from its last
checkpoint goes through the same batches as one that was not.
"""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from selfrepair.models.decoder import register
from selfrepair.tokens.corpora import read_corpus
from selfrepair.tokens.tokenizer import END_OF_TEXT, save_tokenizer

LOG_EVERY = 100
EVALUATE_EVERY = 1000
SAVE_EVERY = 500


@dataclass(frozen=True)
class Training:
    """What is trained, and how.

    Attributes:
        architecture: fields of the Hugging Face config, with its `model_type`.
        steps: optimiser steps.
        batch_rows: rows of a step.
        row_length: tokens of a row, the beginning-of-text token included.
        learning_rate: peak of AdamW's rate, after `warmup_steps`; then a cosine to zero.
        weight_decay: of the matrices; gains, biases and embeddings are not decayed.
        seed: of the initial weights and of the batches.
        checkpoints: the steps to keep, or how many log-spaced ones, the last step included; 0 for none.
    """

    architecture: dict[str, Any]
    steps: int
    batch_rows: int
    row_length: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    seed: int
    checkpoints: int | list[int] = 0

    def __post_init__(self) -> None:
        if not 0 < self.warmup_steps < self.steps:
            raise ValueError(f"warmup_steps must be between 0 and steps ({self.steps}), not {self.warmup_steps}")


def checkpoint_steps(steps: int, count: int | list[int]) -> list[int]:
    """Return `count` steps from 1 to `steps`, evenly spaced in their logarithm; or the steps that are given."""
    if isinstance(count, list):
        return count
    return sorted({round(steps ** (i / (count - 1))) for i in range(count)}) if count > 1 else [steps] * count


def token_stream(texts: list[str], tokenizer: Tokenizer) -> Int[Tensor, " token"]:
    """Concatenate documents, each followed by the end-of-text token."""
    separator = tokenizer.token_to_id(END_OF_TEXT)
    tokenizer.no_truncation()  # whatever its file asks for
    tokenizer.no_padding()
    encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
    return torch.tensor([token for text in encoded for token in (*text.ids, separator)])


def rows_at(
    stream: Int[Tensor, " token"], starts: Int[Tensor, " row"], length: int, bos: int
) -> Int[Tensor, "row pos"]:
    """Cut a row of `length` tokens at each start: the beginning-of-text token, then `length - 1` of the stream."""
    body = stream[starts[:, None] + torch.arange(length - 1)]
    return torch.cat([torch.full((len(starts), 1), bos), body], dim=1)


def bigram_loss(train: Int[Tensor, " token"], rows: Int[Tensor, "row pos"], vocabulary_size: int) -> float:
    """Loss (nats per token) on `rows` of a bigram model of `train`, interpolated with its unigram model.

    After n sightings of the first token with k distinct successors the bigram estimate weighs n / (n + k)
    (Witten-Bell), so the baseline is not handicapped on rare contexts.
    """
    pairs = torch.bincount(train[:-1] * vocabulary_size + train[1:], minlength=vocabulary_size**2)
    pairs = pairs.view(vocabulary_size, vocabulary_size).double()
    unigram = (torch.bincount(train, minlength=vocabulary_size).double() + 1) / (len(train) + vocabulary_size)
    distinct = (pairs > 0).sum(1, keepdim=True).clamp(min=1)  # of a token never seen the unigram model speaks
    probability = (pairs + distinct * unigram) / (pairs.sum(1, keepdim=True) + distinct)
    return -probability[rows[:, :-1], rows[:, 1:]].log().mean().item()


@torch.no_grad()
def held_out_loss(model: PreTrainedModel, rows: Int[Tensor, "row pos"], batch_rows: int = 64) -> float:
    """Mean loss (nats per token) of the model on rows, every position after the first scored."""
    was_training = model.training
    model.eval()
    losses = [_loss(model, batch, reduction="sum").item() for batch in rows.split(batch_rows)]
    model.train(was_training)
    return sum(losses) / rows[:, 1:].numel()


def train(
    training: Training,
    tokenizer: Tokenizer,
    train_stream: Int[Tensor, " token"],
    held_out_stream: Int[Tensor, " held_out_token"],
    output: Path,
    state: Path,
    log: Callable[[str], None],
) -> None:
    """Train, resuming from `state` where it holds a checkpoint, and write the finished model to `output`.

    The folder `state` keeps the state of one training by its settings, tokenizer and text, so that another training
    never resumes from it; it is removed when the model is written.

    `output` gets `config.json`, `model.safetensors`, the tokenizer, `training.csv` (step, tokens, rate, train and
    held-out loss in nats per token, seconds), `training.json` (the exact settings and the baselines) and
    `checkpoints/step-N/`. The held-out loss of the log is of a fixed tenth of the held-out rows; the final one of all.
    """
    register()
    torch.manual_seed(training.seed)
    vocabulary_size, bos = tokenizer.get_vocab_size(), tokenizer.token_to_id(END_OF_TEXT)
    assert bos is not None  # `train_tokenizer` puts it first
    config = AutoConfig.for_model(
        **training.architecture, vocab_size=vocabulary_size, bos_token_id=bos, eos_token_id=bos, pad_token_id=None
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    optimiser = make_optimiser(model, training)
    length = training.row_length
    held_out = rows_at(held_out_stream, torch.arange(0, len(held_out_stream) - length, length - 1), length, bos)
    resumable = state / fingerprint(training, tokenizer, train_stream, held_out_stream)
    history, first = _resume(model, optimiser, resumable)
    keep = checkpoint_steps(training.steps, training.checkpoints)
    started, running = time.monotonic(), []
    spent = history[-1]["seconds"] if history else 0.0
    model.train()
    for step in range(first + 1, training.steps + 1):
        rate = training.learning_rate * _schedule(step, training)
        for group in optimiser.param_groups:
            group["lr"] = rate
        generator = torch.Generator().manual_seed(training.seed * 1_000_003 + step)
        torch.manual_seed(training.seed * 1_000_003 + step)  # of dropout
        starts = torch.randint(len(train_stream) - length + 1, (training.batch_rows,), generator=generator)
        running.append(take_step(model, optimiser, rows_at(train_stream, starts, length, bos)))
        if not math.isfinite(running[-1]):
            raise FloatingPointError(f"training diverged at step {step}: loss {running[-1]}; lower learning_rate")
        if step % LOG_EVERY == 0 or step == training.steps or step in keep:
            seconds = spent + time.monotonic() - started
            evaluate = step % EVALUATE_EVERY == 0 or step in keep
            history.append(
                {
                    "step": step,
                    "tokens": step * training.batch_rows * length,
                    "learning_rate": rate,
                    "train_loss": sum(running) / len(running),
                    "held_out_loss": held_out_loss(model, held_out[::10]) if evaluate else None,
                    "seconds": round(seconds, 1),
                }
            )
            running = []
            left = (seconds - spent) / (step - first) * (training.steps - step)
            log(
                f"step {step}/{training.steps}, train loss {history[-1]['train_loss']:.3f}, "
                f"{training.batch_rows * length * (step - first) / (seconds - spent):,.0f} tokens/s, "
                f"{left / 60:.0f} min left"
            )
        if step in keep:
            _save_model(model, resumable / "checkpoints" / f"step-{step:06d}", torch.float16)
        if step % SAVE_EVERY == 0 or step == training.steps:
            _save_state(model, optimiser, history, step, resumable)
    _finish(model, tokenizer, training, history, train_stream, held_out, output, resumable)
    shutil.rmtree(state)


def fingerprint(training: Training, tokenizer: Tokenizer, *streams: Int[Tensor, "..."]) -> str:
    """Return a hash of all that a training depends on but the code."""
    digest = hashlib.sha256(json.dumps(training.__dict__, sort_keys=True).encode() + tokenizer.to_str().encode())
    for stream in streams:
        digest.update(stream.numpy().tobytes())
    return digest.hexdigest()[:16]


def take_step(model: PreTrainedModel, optimiser: torch.optim.Optimizer, rows: Int[Tensor, "row pos"]) -> float:
    """Take one step of the optimiser, with gradients clipped to a norm of one; return the loss before it (nats)."""
    loss = _loss(model, rows)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return loss.item()


def _loss(model: PreTrainedModel, rows: Int[Tensor, "row pos"], reduction: str = "mean") -> Float[Tensor, ""]:
    logits = model(rows[:, :-1], use_cache=False).logits
    return cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction=reduction)


def _schedule(step: int, training: Training) -> float:
    if step < training.warmup_steps:
        return step / training.warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - training.warmup_steps) / (training.steps - training.warmup_steps)))


def make_optimiser(model: PreTrainedModel, training: Training) -> torch.optim.AdamW:
    """AdamW, which decays the matrices but not the embeddings."""
    embedding = {id(model.get_input_embeddings().weight)}
    decayed = [p for p in model.parameters() if p.ndim == 2 and id(p) not in embedding]
    rest = [p for p in model.parameters() if p.ndim != 2 or id(p) in embedding]
    groups = [{"params": decayed, "weight_decay": training.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=training.learning_rate, betas=(0.9, 0.95), fused=True)


def _save_model(model: PreTrainedModel, folder: Path, dtype: torch.dtype) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = {name: p.to(dtype).contiguous() for name, p in model.named_parameters()}
    _write_tensors(names, folder / "model.safetensors")
    model.config.save_pretrained(folder)


def _save_state(
    model: PreTrainedModel, optimiser: torch.optim.AdamW, history: list[dict], step: int, state: Path
) -> None:
    """Write weights, moments, history and step as one file, so that a kill leaves the old state or the new one."""
    state.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": p.detach().contiguous() for name, p in model.named_parameters()}
    for name, p in model.named_parameters():
        for moment in ("exp_avg", "exp_avg_sq"):
            tensors[f"{moment}.{name}"] = optimiser.state[p][moment].contiguous()
    _write_tensors(tensors, state / "state.safetensors", {"history": json.dumps(history), "step": str(step)})


def _resume(model: PreTrainedModel, optimiser: torch.optim.AdamW, state: Path) -> tuple[list[dict], int]:
    path = state / "state.safetensors"
    if not path.exists():
        return [], 0
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors, step = load_file(path), int(metadata["step"])
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(tensors[f"model.{name}"])
            moments = {moment: tensors[f"{moment}.{name}"] for moment in ("exp_avg", "exp_avg_sq")}
            optimiser.state[p] = {"step": torch.tensor(float(step)), **moments}
    return json.loads(metadata["history"]), step


def _write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, {"format": "pt", **(metadata or {})})
    temporary.rename(path)


def _finish(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    training: Training,
    history: list[dict],
    train_stream: Int[Tensor, " token"],
    held_out: Int[Tensor, "row pos"],
    output: Path,
    state: Path,
) -> None:
    model.eval()
    folders = [output]
    _save_model(model, output, torch.float32)
    shutil.rmtree(output / "checkpoints", ignore_errors=True)  # of an earlier training
    for checkpoint in sorted((state / "checkpoints").glob("step-*")):
        folder = output / "checkpoints" / checkpoint.name
        shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
        folders.append(folder)
    for folder in folders:
        save_tokenizer(tokenizer, folder)
    pl.DataFrame(history).write_csv(output / "training.csv")
    vocabulary_size = tokenizer.get_vocab_size()
    summary = {
        "training": training.__dict__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_tokens_in_corpus": len(train_stream),
        "held_out_tokens": held_out[:, 1:].numel(),
        "held_out_loss": held_out_loss(model, held_out),
        "held_out_loss_bigram": bigram_loss(train_stream, held_out, vocabulary_size),
        "seconds": history[-1]["seconds"],
        "torch": torch.__version__,
    }
    (output / "training.json").write_text(json.dumps(summary, indent=2) + "\n")


def train_model(corpus: Path, tokenizer: Path, training: str, output: Path, threads: int = 1) -> None:
    """Train a small language model from scratch, resuming where an interrupted training left its checkpoint.

    Args:
        corpus: corpus with the columns split and text.
        tokenizer: tokenizer.json.
        training: JSON of the fields of `Training`.
        output: model directory to write.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    bpe = Tokenizer.from_file(str(tokenizer))
    streams = [
        token_stream(read_corpus(corpus, "text", split, kinds=[])["text"].to_list(), bpe)
        for split in ("train", "held_out")
    ]
    state = output.with_name(f"{output.name}.state")
    train_stream, held_out_stream = streams
    settings = Training(**json.loads(training))
    log = partial(print, flush=True)
    train(settings, bpe, train_stream, held_out_stream, output, state, log)
