"""Rows of tokens of a corpus, and a tokenizer trained on one: what the programs of both rules do."""

from pathlib import Path

from selfrepair.core.tables import write_parquet
from selfrepair.tokens.corpora import read_corpus
from selfrepair.tokens.corpus_file import check_sha256
from selfrepair.tokens.rows import sample_tokens
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
) -> None:
    """Tokenise a corpus with a model's tokenizer, pack it into rows, draw some, and pair them for resampling.

    Args:
        corpus: Parquet, JSON-lines or text file.
        tokenizer: directory of the tokenizer.
        rows: rows to draw.
        row_length: tokens of a row.
        seed: seed of the draw and of the pairing.
        output: folder for tokens, rows and documents.
        sha256: checksum that the corpus must have.
        text: column that holds the text.
        split: only documents of this split.
        kinds: only documents of these kinds.

    Raises:
        CorpusError: the corpus can't be read, has another checksum or too little text; rows can't be paired.
    """
    check_sha256(corpus, sha256)
    documents = read_corpus(corpus, text, split or None, kinds)
    encoded = encode(tokenizer, documents["text"].to_list())
    sampled = sample_tokens(*encoded, documents, rows, row_length, seed)
    for name in ("tokens", "rows", "documents"):
        write_parquet(getattr(sampled, name), output / f"{name}.parquet")
    print(f"{rows} rows of {row_length} tokens from {len(documents)} documents")


def train_tokenizer(corpus: Path, vocabulary_size: int, output: Path) -> None:
    """Train the byte-level BPE tokenizer that the shipped models share, on the training split of a corpus.

    Args:
        corpus: corpus with the columns split and text.
        vocabulary_size: tokens of the vocabulary.
        output: folder to write.
    """
    texts = read_corpus(corpus, "text", "train", kinds=[])["text"].to_list()
    save_tokenizer(train_bpe(texts, vocabulary_size), output)
