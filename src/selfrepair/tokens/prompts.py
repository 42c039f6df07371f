"""Generated prompts whose answers are known: sums, repeated random tokens, copied lists, indirect objects.

A row is one prompt and a document of its own: the beginning-of-text token, the prompt, the answer. Rows of a kind are
equally long, so that nothing has to be filled up.

- `arithmetic`: four sums, one in a line, and a fifth; all results are of one digit. The answer is the fifth, the
  alternative another digit.
- `induction`: random tokens, twice; answers are those of the second time but the first, which nothing foretells.
- `copying`: three lines, each a list of five words and its copy; answers are the words of the last copy.
- `ioi`: a sentence of two names that ends before the second mention of one, as in Wang et al. (2022,
  arXiv:2211.00593); the answer is the indirect object, the alternative the subject.

Where texts are tokenised, the answer is the first token in which the right and the wrong text differ, whatever the
tokenizer.
"""

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from selfrepair.core.tables import frame
from selfrepair.tokens.corpus_file import CorpusError
from selfrepair.tokens.rows import SampledTokens, derange, row_table, token_table
from selfrepair.tokens.schema import DOCUMENTS
from selfrepair.tokens.tokenizer import encode, ordinary_tokens

SUMS = 5  # in a prompt, the last of which is asked for
REPEATED = 30  # tokens
LISTS, WORDS = 3, 5
WORD = re.compile("[\u0120\u2581][a-z]{3,}")  # a space, as vocabularies spell it, and small letters
FEWEST_WORDS = 30  # of a vocabulary from which lists are drawn; from all its tokens where it has fewer
ROUND, ROUNDS = 4, 50  # so many times the rows are drawn at a time, until enough have one length, so many times
NAMES = [
    *("Mary", "John", "Tom", "James", "Dan", "Martin", "Amy", "Mike", "Mark", "Paul"),
    *("Anna", "Sarah", "Peter", "David", "Alice", "Jack", "Emma", "Laura", "Kevin", "Simon"),
    *("Lisa", "Robert", "Adam", "Susan", "George", "Henry", "Jane", "Karen", "Kate", "Steve"),
]
TEMPLATES = [
    "Then, {} and {} went to the {place}. {subject} gave a {thing} to",
    "When {} and {} got a {thing} at the {place}, {subject} decided to give it to",
    "After {} and {} went to the {place}, {subject} gave a {thing} to",
    "While {} and {} were working at the {place}, {subject} gave a {thing} to",
]
PLACES = ["store", "garden", "restaurant", "school", "hospital", "office", "house", "station"]
THINGS = ["ring", "kiss", "bone", "basketball", "computer", "necklace", "drink", "snack"]

Drawn = np.random.Generator


@dataclass(frozen=True)
class Prompt:
    """Tokens of a prompt without the beginning-of-text token, the places of its answers, and a wrong last answer."""

    tokens: list[int]
    answers: list[int]
    alternative: int | None = None


def make_prompts(tokenizer: Path, kind: str, n_rows: int, longest: int, seed: int) -> SampledTokens:
    """Draw prompts of a kind and pair them for resampling, each with one that has other answers.

    Prompts are drawn until as many as wanted have the length that most of them have.

    Args:
        tokenizer: directory of the tokenizer.
        kind: a key of `KINDS`.
        longest: tokens that a row may have.

    Raises:
        CorpusError: rows are longer, or can't be paired; the tokenizer makes no such prompts.
    """
    generator = np.random.default_rng([seed, 4, list(KINDS).index(kind)])
    _, bos, _ = encode(tokenizer, [""])
    by_length: dict[int, list[Prompt]] = defaultdict(list)
    prompts: list[Prompt] = []
    for _ in range(ROUNDS):
        for prompt in KINDS[kind](tokenizer, ROUND * n_rows, generator):
            by_length[len(prompt.tokens)].append(prompt)
        prompts = max(by_length.values(), key=len, default=[])
        if len(prompts) >= n_rows:
            break
    else:
        raise CorpusError(
            f"with the tokenizer of {tokenizer} only {len(prompts)} of {n_rows} prompts of the kind {kind} of one "
            "length could be made; ask for another kind, or for fewer rows"
        )
    prompts = prompts[:n_rows]
    token = np.array([prompt.tokens for prompt in prompts])
    if token.shape[1] + 1 > longest:
        raise CorpusError(
            f"prompts of the kind {kind} have {token.shape[1] + 1} tokens, more than the {longest} of a row; raise "
            "`tokens.row_length`, or take a model with more positions"
        )
    answer, alternative = np.zeros_like(token, dtype=bool), np.full_like(token, -1)
    for row, prompt in enumerate(prompts):
        answer[row, prompt.answers] = True
        if prompt.alternative is not None:
            alternative[row, prompt.answers[-1]] = prompt.alternative
    document = np.broadcast_to(np.arange(n_rows)[:, None], token.shape)
    offset = np.broadcast_to(np.arange(token.shape[1]), token.shape)
    listed = {"document": np.arange(n_rows), "name": [f"{kind} {i}" for i in range(n_rows)], "kind": [kind] * n_rows}
    table = token_table(bos, token, document, offset, answer, alternative)
    return SampledTokens(table, row_table(_other_answers(token, answer, generator)), frame(listed, DOCUMENTS))


def _other_answers(
    token: Int[np.ndarray, "row body"], answer: Int[np.ndarray, "row body"], generator: Drawn
) -> Int[np.ndarray, " row"]:
    """For each row another one whose answers are not the same."""
    _, same = np.unique(np.where(answer, token, -1), axis=0, return_inverse=True)
    return derange([frozenset([index]) for index in same.ravel().tolist()], generator)


def induction(tokenizer: Path, count: int, generator: Drawn) -> list[Prompt]:
    """Random tokens of the vocabulary, twice."""
    drawn = generator.choice(sorted(ordinary_tokens(tokenizer)), (count, REPEATED)).tolist()
    return [Prompt(tokens * 2, list(range(REPEATED + 1, 2 * REPEATED))) for tokens in drawn]


def copying(tokenizer: Path, count: int, generator: Drawn) -> list[Prompt]:
    """Lines of a list of words, a colon, and the list again."""
    ordinary = ordinary_tokens(tokenizer)
    words = sorted(token for token, spelled in ordinary.items() if WORD.fullmatch(spelled))
    items = words if len(words) >= FEWEST_WORDS else sorted(ordinary)
    (*_, comma), (*_, colon), (*_, newline) = encode(tokenizer, [",", ":", "\n"])[0]
    prompts = []
    for _ in range(count):
        tokens: list[int] = []
        for line in generator.choice(items, (LISTS, WORDS), replace=False).tolist():
            listed = [token for word in line for token in (comma, word)][1:]
            tokens += [*listed, colon, *listed, newline]
        tokens.pop()
        prompts.append(Prompt(tokens, list(range(len(tokens) + 1 - 2 * WORDS, len(tokens), 2))))
    return prompts


def arithmetic(tokenizer: Path, count: int, generator: Drawn) -> list[Prompt]:
    """Sums of two digits whose result is a digit: a token in any tokenizer; no digit is 0."""
    sums = [(a, b) for a in range(1, 9) for b in range(1, 10 - a)]
    texts = []
    for _ in range(count):
        *shown, (a, b) = generator.choice(sums, SUMS, replace=False).tolist()
        wrong = generator.choice([result for result in range(2, 10) if result != a + b])
        prompt = "".join(f"{x}+{y}={x + y}\n" for x, y in shown) + f"{a}+{b}="
        texts.append((f"{prompt}{a + b}\n", f"{prompt}{wrong}\n"))
    return _decided(tokenizer, texts)


def ioi(tokenizer: Path, count: int, generator: Drawn) -> list[Prompt]:
    """Sentences of two names of different initials; either may come first."""
    pairs = [(one, other) for one in NAMES for other in NAMES if one[0] != other[0]]
    texts = []
    for _ in range(count):
        names = generator.choice(pairs).tolist()
        at = int(generator.integers(2))
        parts = {"place": generator.choice(PLACES), "thing": generator.choice(THINGS), "subject": names[at]}
        prompt = str(generator.choice(TEMPLATES)).format(*names, **parts)
        texts.append((f"{prompt} {names[1 - at]}.", f"{prompt} {names[at]}."))
    return _decided(tokenizer, texts)


def _decided(tokenizer: Path, texts: list[tuple[str, str]]) -> list[Prompt]:
    """Prompts of right and wrong texts, up to the token that decides between them; without those where none does.

    None does where the one token begins the other, as a space begins a space and a letter.
    """
    spelled = ordinary_tokens(tokenizer)
    encoded, _, _ = encode(tokenizer, [text for pair in texts for text in pair])
    prompts = []
    for right, wrong in zip(encoded[::2], encoded[1::2], strict=True):
        place = next((at for at, (x, y) in enumerate(zip(right, wrong, strict=False)) if x != y), None)
        if place is None:
            continue
        one, other = spelled[right[place]], spelled[wrong[place]]
        if not one.startswith(other) and not other.startswith(one):
            prompts.append(Prompt(right[: place + 1], [place], wrong[place]))
    return prompts


KINDS: dict[str, Callable[[Path, int, Drawn], list[Prompt]]] = {
    "arithmetic": arithmetic,
    "induction": induction,
    "copying": copying,
    "ioi": ioi,
}
