"""Documents to rows of tokens: packed with their separators, drawn with a seed, and paired for resampling."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Int

from selfrepair.tokens.corpus_file import CorpusError

MAX_REPAIRS = 200  # rounds of swapping before a derangement is given up


@dataclass(frozen=True)
class SampledTokens:
    """Rows drawn from a corpus.

    Attributes:
        tokens: row, pos, token, document (index, null at the beginning-of-text token), offset (token within its
            document; the separator counts as the document's last).
        rows: row, source: the row that its resampled activations come from.
        documents: document (index), name, kind.
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
        CorpusError: the corpus has fewer tokens than asked, or too few documents to pair rows for resampling.
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

    def with_bos(values: np.ndarray, first: int | None) -> pl.Series:
        framed = np.concatenate([np.full((n_rows, 1), -1), values], axis=1).ravel()
        return pl.Series(framed, dtype=pl.Int32).replace(-1, first)

    positions = np.tile(np.arange(row_length), n_rows)
    tokens = pl.DataFrame(
        {
            "row": pl.Series(np.repeat(np.arange(n_rows), row_length), dtype=pl.Int32),
            "pos": pl.Series(positions, dtype=pl.Int32),
            "token": with_bos(stream[at], bos),
            "document": with_bos(document[at], None),
            "offset": with_bos(offset[at], None),
        }
    )
    rows = pl.DataFrame({"row": np.arange(n_rows), "source": source}, schema={"row": pl.Int32, "source": pl.Int32})
    listed = documents.select(pl.int_range(pl.len(), dtype=pl.Int32).alias("document"), "name", "kind")
    return SampledTokens(tokens, rows, listed)


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
    """Reshape a column of `SampledTokens.tokens` to rows; a null becomes -1."""
    ordered = tokens.sort("row", "pos")
    return ordered[column].fill_null(-1).to_numpy().reshape(ordered["row"].n_unique(), -1).astype(np.int64)
