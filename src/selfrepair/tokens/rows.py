"""Documents to rows of tokens: packed with their separators, drawn with a seed, and paired for resampling."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Int

from selfrepair.core.tables import frame
from selfrepair.tokens.corpus_file import CorpusError
from selfrepair.tokens.schema import DOCUMENTS, ROWS, TOKENS

MAX_REPAIRS = 200  # rounds of swapping before a derangement is given up


@dataclass(frozen=True)
class SampledTokens:
    """Rows drawn from a corpus, or of generated prompts.

    Attributes:
        tokens: `TOKENS`; document, offset and alternative are null at the beginning-of-text token.
        rows: `ROWS`: for each row the one that its resampled activations come from.
        documents: `DOCUMENTS`.
    """

    tokens: pl.DataFrame
    rows: pl.DataFrame
    documents: pl.DataFrame


def sample_tokens(
    encoded: list[list[int]],
    bos: int,
    separator: int,
    documents: pl.DataFrame,
    n_rows: int,
    row_length: int,
    seed: int,
) -> SampledTokens:
    """Pack tokenised documents into rows and draw some of them.

    Documents are joined in order, each followed by the separator, and cut into rows of `row_length - 1` tokens after a
    beginning-of-text token. `n_rows` of these are drawn without replacement, so that they spread over the corpus.

    Raises:
        CorpusError: the corpus has fewer tokens than asked, or too few documents to pair rows for resampling; or a row
            is paired with one of the same tokens.
    """
    ids = [np.array([*text, separator]) for text in encoded]
    stream = np.concatenate(ids)
    document = np.repeat(np.arange(len(ids)), [len(text) for text in ids])
    offset = np.concatenate([np.arange(len(text)) for text in ids])
    body = row_length - 1
    packed = len(stream) // body
    if packed < n_rows:
        raise CorpusError(
            f"the corpus has {len(stream):,} tokens, enough for {packed:,} rows of {row_length}, but {n_rows:,} rows "
            "were asked for; lower `tokens.rows` or choose more text (`tokens.kinds`, another corpus)"
        )
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.permutation(packed)[:n_rows])
    at = chosen[:, None] * body + np.arange(body)
    source = derange([frozenset(row) for row in document[at].tolist()], generator)
    if (same := (stream[at] == stream[at[source]]).all(1)).any():
        raise CorpusError(
            f"row {same.argmax()} would be replaced by one with the same tokens, so that nothing would change; use a "
            "corpus whose documents differ"
        )

    none = np.full_like(at, -1)
    table = token_table(bos, stream[at], document[at], offset[at], none >= 0, none)
    listed = {"document": np.arange(len(documents)), "name": documents["name"], "kind": documents["kind"]}
    return SampledTokens(table, row_table(source), frame(listed, DOCUMENTS))


def token_table(
    bos: int,
    token: Int[np.ndarray, "row body"],
    document: Int[np.ndarray, "row body"],
    offset: Int[np.ndarray, "row body"],
    answer: Bool[np.ndarray, "row body"],
    alternative: Int[np.ndarray, "row body"],
) -> pl.DataFrame:
    """`TOKENS` of rows that a beginning-of-text token is put before; of what can be null -1 says that it is."""
    n_rows, body = token.shape

    def with_bos(values: np.ndarray, first: int = -1) -> Int[np.ndarray, " token"]:
        return np.concatenate([np.full((n_rows, 1), first), values], axis=1).ravel()

    columns = {
        "row": np.repeat(np.arange(n_rows), body + 1),
        "pos": np.tile(np.arange(body + 1), n_rows),
        "token": with_bos(token, bos),
        "document": with_bos(document),
        "offset": with_bos(offset),
        "answer": with_bos(answer, 0).astype(bool),
        "alternative": with_bos(alternative),
    }
    optional = pl.col("document", "offset", "alternative")
    return frame(columns, TOKENS).with_columns(pl.when(optional >= 0).then(optional))


def row_table(source: Int[np.ndarray, " row"]) -> pl.DataFrame:
    """`ROWS` of the row that replaces each."""
    return frame({"row": np.arange(len(source)), "source": source}, ROWS)


def derange(documents: list[frozenset[int]], generator: np.random.Generator) -> Int[np.ndarray, " row"]:
    """Return a random permutation of rows that pairs no row with one that holds text of the same document.

    A row shares its documents with itself, so no row is its own source.

    Raises:
        CorpusError: there is none to be found, as when one document fills more than half of the rows.
    """
    n = len(documents)
    source = generator.permutation(n)

    def clash(row: int, other: int | np.integer) -> bool:
        return not documents[row].isdisjoint(documents[other])

    for _ in range(MAX_REPAIRS):
        clashing = [row for row in range(n) if clash(row, source[row])]
        if not clashing:
            return source
        for row in clashing:
            other = int(generator.integers(n))
            # A swap that only moves a clash is made too: it leads out of dead ends.
            if clash(row, source[other]) + clash(other, source[row]) <= clash(row, source[row]) + clash(
                other, source[other]
            ):
                source[row], source[other] = source[other], source[row]
    raise CorpusError(
        f"{len(clashing)} of {n} rows can't be paired with a row of another document; "
        "use more documents (a plain text is one, unless lines `<|endoftext|>` divide it), or more rows"
    )


def token_matrix(tokens: pl.DataFrame, column: str = "token") -> Int[np.ndarray, "row pos"]:
    """Reshape a column of `SampledTokens.tokens` to rows; a null becomes -1, true 1."""
    ordered = tokens.sort("row", "pos")
    return ordered[column].cast(pl.Int64).fill_null(-1).to_numpy(writable=True).reshape(ordered["row"].n_unique(), -1)
