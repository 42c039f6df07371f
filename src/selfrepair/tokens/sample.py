"""Rows of tokens of a corpus or of prompts, and a tokenizer trained on a corpus: what the programs of both rules do."""

from pathlib import Path

import polars as pl

from selfrepair.core.tables import write_parquet
from selfrepair.tokens.corpora import read_corpus
from selfrepair.tokens.corpus_file import CorpusError, check_sha256
from selfrepair.tokens.prompts import KINDS, make_prompts
from selfrepair.tokens.rows import SampledTokens, sample_tokens
from selfrepair.tokens.tokenizer import encode, save_tokenizer, train_bpe


def sample(
    corpus: Path,
    tokenizer: Path,
    rows: int,
    row_length: int,
    seed: int,
    output: Path,
    sha256: str = "",
    text: str = "text",
    split: str = "",
    kinds: list[str] = [],  # noqa: B006
    prompts: str = "",
) -> None:
    """Tokenise a corpus with a model's tokenizer, pack it into rows, draw some, and pair them for resampling.

    Or make rows of generated prompts, without the corpus.

    Args:
        corpus: Parquet, JSON-lines or text file.
        tokenizer: directory of the tokenizer.
        rows: rows to draw.
        row_length: tokens of a row; of generated prompts at most.
        seed: seed of the draw and of the pairing.
        output: folder for tokens, rows and documents.
        sha256: checksum that the corpus must have.
        text: column that holds the text.
        split: only documents of this split.
        kinds: only documents of these kinds.
        prompts: kind of the generated prompts, if the rows are to be of these.

    Raises:
        CorpusError: the corpus can't be read, has another checksum or too little text; prompts are longer than a row;
            rows can't be paired.
    """
    if prompts:
        sampled, whence = make_prompts(tokenizer, prompts, rows, row_length, seed), f"generated prompts: {prompts}"
    else:
        check_sha256(corpus, sha256)
        documents = _distinct(read_corpus(corpus, text, split or None, kinds))
        encoded = encode(tokenizer, documents["text"].to_list())
        sampled, whence = sample_tokens(*encoded, documents, rows, row_length, seed), f"{len(documents)} documents"
    for name in ("tokens", "rows", "documents"):
        write_parquet(getattr(sampled, name), output / f"{name}.parquet")
    print(f"{rows} rows of {sampled.tokens.height // rows} tokens from {whence}")


def sample_distributions(
    corpus: Path,
    tokenizer: Path,
    names: list[str],
    rows: int,
    row_length: int,
    longest: int,
    seed: int,
    sha256: str = "",
    text: str = "text",
    split: str = "",
) -> dict[str, SampledTokens]:
    """Rows of several kinds of a corpus, and of generated prompts.

    Args:
        names: kinds of the corpus, or `text` for all of it, which also stands for kinds that it does not have; and
            kinds of prompts.
        rows: of each; of a kind of the corpus all that it fills if they are fewer.
        row_length: tokens of a row of the corpus.
        longest: tokens that a prompt may have.
        sha256, text, split: as for `sample`.

    Raises:
        CorpusError: as of `sample`; names the distribution.
    """
    check_sha256(corpus, sha256)
    documents = _distinct(read_corpus(corpus, text, split or None, kinds=[]))
    texts = [name for name in names if name not in KINDS and (name == "text" or name in set(documents["kind"]))]
    sampled = {}
    for name in [*(texts or ["text"]), *(name for name in names if name in KINDS)]:
        try:
            if name in KINDS:
                sampled[name] = make_prompts(tokenizer, name, rows, longest, seed)
                continue
            of_kind = documents if name == "text" else documents.filter(kind=name)
            encoded, bos, separator = encode(tokenizer, of_kind["text"].to_list())
            filled = sum(len(ids) + 1 for ids in encoded) // (row_length - 1)
            sampled[name] = sample_tokens(encoded, bos, separator, of_kind, min(rows, filled), row_length, seed)
        except CorpusError as error:
            raise CorpusError(f"experiments.distributions: {name}: {error}") from error
    return sampled


def _distinct(documents: pl.DataFrame) -> pl.DataFrame:
    """Of documents with the same text the first: they are no independent samples, and none can replace another."""
    distinct = documents.unique("text", keep="first", maintain_order=True)
    if again := documents.height - distinct.height:
        print(f"{again} documents are left out, as their text was there before")
    return distinct


def train_tokenizer(corpus: Path, vocabulary_size: int, output: Path) -> None:
    """Train the byte-level BPE tokenizer that the shipped models share, on the training split of a corpus.

    Args:
        corpus: corpus with the columns split and text.
        vocabulary_size: tokens of the vocabulary.
        output: folder to write.
    """
    texts = read_corpus(corpus, "text", "train", kinds=[])["text"].to_list()
    save_tokenizer(train_bpe(texts, vocabulary_size), output)
