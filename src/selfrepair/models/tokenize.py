"""Rows of tokens of a text, as `measure` takes them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from selfrepair.models.directory import max_positions
from selfrepair.models.folded import FoldedModel
from selfrepair.models.gguf import in_terms_of, write_tokenizer
from selfrepair.models.gguf_header import is_gguf, read_header
from selfrepair.tokens.tokenizer import encode


def tokenize(model: FoldedModel | str | Path, text: str, row_length: int) -> Int[Tensor, "row pos"]:
    """Cut a text into rows of tokens, each after the model's beginning-of-text token, as the workflow does.

    A tokenizer without a beginning-of-text token begins rows with its end-of-text token. What is left over after the
    last whole row is dropped. Resample ablation needs two rows, as one replaces the other.

    Args:
        model: from `load_model`, the directory of a model or tokenizer, or a file `x.gguf`.
        text: one document.
        row_length: tokens of a row, the first included.

    Raises:
        ValueError: the text does not fill a row; or a row is longer than the model was made for, or shorter than two
            tokens.
        ModelDirectoryError: the directory does not exist.
        TypeError: the text is none, or the model is none of those.
        CorpusError: the tokenizer can't be read, fails on the text, or has neither a beginning-of-text nor an
            end-of-text token.
    """
    if not isinstance(text, str):
        raise TypeError(f"text: it must be one text, not {type(text).__name__}; tokenize each by itself")
    if not isinstance(model, FoldedModel | str | Path):
        raise TypeError(f"model: it must be what `load_model` returns, or a path, not {type(model).__name__}")
    if type(row_length) is not int:
        raise ValueError(f"row_length: it must be a whole number, not {row_length!r}")
    if isinstance(model, FoldedModel):
        if model.directory is None:
            raise ValueError(f"{model.name} was not loaded from a directory; give `tokenize` that of its tokenizer")
        positions: int | None = model.max_positions
        model = model.directory
    else:
        positions = max_positions(Path(model))
    if positions is not None and row_length > positions:
        raise ValueError(f"row_length: {row_length} is more than the {positions} positions of the model")
    if row_length < 2:
        raise ValueError(f"row_length: {row_length} leaves no token to predict; use at least 2")
    with _tokenizer_directory(Path(model)) as folder:
        (ids,), bos, _ = encode(folder, [text])
    rows = len(ids) // (row_length - 1)
    if rows == 0:
        raise ValueError(f"the text has {len(ids)} tokens, and a row of {row_length} needs {row_length - 1}")
    body = torch.tensor(ids[: rows * (row_length - 1)]).view(rows, -1)
    return torch.cat([torch.full((rows, 1), bos), body], dim=1)


@contextmanager
def _tokenizer_directory(path: Path) -> Iterator[Path]:
    """The directory itself, or one that holds the tokenizer of a GGUF file."""
    if not is_gguf(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as temporary:
        write_tokenizer(read_header(path), Path(temporary))
        with in_terms_of(path, Path(temporary)):
            yield Path(temporary)
