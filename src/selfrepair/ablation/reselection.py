"""Top tokens selected anew in every bootstrap replicate of documents: which tokens that can be.

A replicate draws whole documents; its top tokens of a head are the top share of the drawn text. Which they are is known
from the clean pass alone, so that only the tokens that some replicate selects have to be kept of an ablation.
"""

import numpy as np
from jaxtyping import Float, Int

FORESEEN = 2000  # replicates whose top tokens are kept
FOLDS = 100  # of the jackknife, where there are at least twice as many documents


def top_count(n_tokens: int, fraction: float) -> int:
    """How many tokens are the top `fraction` of `n_tokens`: int(fraction n), at least one."""
    return max(1, int(fraction * n_tokens))


def bootstrap_draws(n_documents: int, replicates: int, seed: int) -> Int[np.ndarray, "replicate document"]:
    """How often each document is drawn in each replicate: documents drawn with replacement, as many as there are.

    The first replicates are the same however many there are.
    """
    generator = np.random.default_rng([seed, 2])
    return generator.multinomial(n_documents, np.full(n_documents, 1 / n_documents), size=replicates)


def jackknife(n_documents: int) -> Int[np.ndarray, "fold document"]:
    """Which documents count when each document in turn is left out, or each of `FOLDS` sets of them; none of one."""
    folds = FOLDS if n_documents >= 2 * FOLDS else n_documents
    if folds < 2:
        return np.zeros((0, n_documents), dtype=np.int64)
    return (np.arange(n_documents) % folds != np.arange(folds)[:, None]).astype(np.int64)


def top_counts(
    lengths: Int[np.ndarray, " document"], weights: Int[np.ndarray, "sample document"], fraction: float
) -> Int[np.ndarray, " sample"]:
    """How many top tokens each sample of documents has.

    Args:
        lengths: tokens of each document.
        weights: how often a sample holds each document.
        fraction: share of tokens that are top tokens.
    """
    return np.array([top_count(tokens, fraction) for tokens in (weights @ lengths).tolist()])


def reach(
    documents: Int[np.ndarray, " token"],
    weights: Int[np.ndarray, "sample document"],
    counts: Int[np.ndarray, " sample"],
) -> int:
    """How many tokens from the first hold the top tokens of every sample of documents.

    Args:
        documents: of all tokens, by falling direct effect, as columns of `weights`.
        weights: how often a sample holds each document.
        counts: of the samples' top tokens (`top_counts`).
    """
    low, high = 0, len(documents)  # the first tokens hold the top tokens of not all, of all samples
    while high - low > 1:
        middle = (low + high) // 2
        of_document = np.bincount(documents[:middle], minlength=weights.shape[1])
        low, high = (low, middle) if (weights @ of_document >= counts).all() else (middle, high)
    return high


def rank_tokens(
    effects: Float[np.ndarray, "head token"], documents: Int[np.ndarray, " token"], fraction: float, seed: int
) -> list[Int[np.ndarray, " _"]]:
    """Tokens of each head, by falling direct effect, that its top tokens in some sample of documents may be.

    Samples: the run, `FORESEEN` bootstrap replicates, and the jackknife. Of equal values the earlier token comes first.

    Args:
        effects: clean direct effects, logits; read head by head.
        documents: of each token.
        fraction: share of tokens that are top tokens.
        seed: of the bootstrap.
    """
    _, documents, lengths = np.unique(documents, return_inverse=True, return_counts=True)
    weights = np.vstack([bootstrap_draws(len(lengths), FORESEEN, seed), jackknife(len(lengths))])
    counts = top_counts(lengths, weights, fraction)
    least = top_count(len(documents), fraction)
    weights = weights.astype(np.float64)  # as exact, and many times faster
    ranked = []
    for of_head in effects:
        order = np.argsort(-of_head, kind="stable")
        ranked.append(order[: max(least, reach(documents[order], weights, counts))])
    return ranked
