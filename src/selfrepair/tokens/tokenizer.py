"""The byte-level BPE tokenizer that the shipped models share, and the way back from any model's tokens to text."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from selfrepair.tokens.corpus_file import CorpusError
from selfrepair.tokens.tokenizer_file import END_OF_TEXT, check_tokenizer_file


def train_bpe(texts: Iterable[str], vocabulary_size: int) -> Tokenizer:
    """Train a byte-level BPE tokenizer; id 0 is `END_OF_TEXT`, and any text survives encoding and decoding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a tokenizer in the form that Hugging Face reads: `tokenizer.json` and `tokenizer_config.json`."""
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT)
    wrapped.save_pretrained(folder)


def decoder(folder: Path) -> Callable[[list[int]], str]:
    """A function from tokens to text, by the tokenizer of a model's directory."""
    tokenizer = _read(folder)
    return lambda tokens: tokenizer.decode(tokens, clean_up_tokenization_spaces=False)


def encode(tokenizer_directory: Path, texts: list[str]) -> tuple[list[list[int]], int, int]:
    """Tokenise texts with a model's own tokenizer; return their ids, the beginning-of-text and the separator token.

    Raises:
        CorpusError: the tokenizer can't be read, fails on a text, has neither a beginning-of-text nor an end-of-text
            token, or gives numbers beyond the model's vocabulary.
    """
    tokenizer = _read(tokenizer_directory)
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if bos is None and eos is None:
        raise CorpusError(f"{tokenizer_directory}: the tokenizer has no bos_token and no eos_token; rows need one")
    # What looks like a special token in a text is text.
    settings = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
    try:
        for text in texts:
            text.encode()
        encoded = tokenizer(texts, **settings)["input_ids"]
    except UnicodeEncodeError as error:
        odd = error.object[error.start]
        raise CorpusError(
            f"a text holds {odd!r}, half of a character, which is no text; replace or remove it"
        ) from error
    except Exception as error:  # whatever it stumbles over
        raise CorpusError(
            f"{tokenizer_directory}: the tokenizer fails on a text ({type(error).__name__}: {error}); mend its files"
        ) from error
    first, separator = eos if bos is None else bos, bos if eos is None else eos
    config = tokenizer_directory / "config.json"
    known = json.loads(config.read_text()).get("vocab_size") if config.is_file() else None
    largest = max(first, separator, *(max(ids, default=0) for ids in encoded))
    if known is not None and largest >= known:
        raise CorpusError(
            f"{tokenizer_directory}: the tokenizer gives {tokenizer.convert_ids_to_tokens(largest)!r} the number "
            f"{largest}, but by {config.name} the model has {known} tokens; restore one of them"
        )
    return encoded, first, separator


def ordinary_tokens(folder: Path) -> dict[int, str]:
    """How the vocabulary of a model's tokenizer spells each token, but special and added ones."""
    tokenizer = _read(folder)
    added = tokenizer.added_tokens_decoder
    return {id: token for token, id in sorted(tokenizer.get_vocab().items()) if id not in added}


def _read(folder: Path) -> Any:
    """The tokenizer of a model's directory.

    Raises:
        CorpusError: transformers can't read it, there is none, or it draws tokens by chance.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever it stumbles over
        raise CorpusError(
            f"{folder}: transformers can't read the tokenizer ({type(error).__name__}: {error}); restore "
            "tokenizer.json and tokenizer_config.json"
        ) from error
    if (file := folder / "tokenizer.json").is_file():
        check_tokenizer_file(file)
    if tokenizer.get_vocab().keys() <= {token.content for token in tokenizer.added_tokens_decoder.values()}:
        # transformers invents one for a directory that holds none.
        raise CorpusError(f"{folder} holds no tokenizer; put its tokenizer.json and tokenizer_config.json there")
    return tokenizer
