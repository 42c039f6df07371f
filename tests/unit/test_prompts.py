"""Generated prompts are what they are called, their answers are right, and the same seed makes them again."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tokenizers import Tokenizer, models

from selfrepair.tokens.corpus_file import CorpusError
from selfrepair.tokens.prompts import KINDS, LISTS, NAMES, REPEATED, SUMS, WORDS, make_prompts
from selfrepair.tokens.rows import SampledTokens, token_matrix
from selfrepair.tokens.sample import sample, sample_distributions
from selfrepair.tokens.schema import DOCUMENTS, ROWS, TOKENS
from selfrepair.tokens.tokenizer import END_OF_TEXT, decoder, save_tokenizer, train_bpe

SHIPPED = Path(__file__).parents[2] / "workflow/resources/models/tiny-gpt2"
N = 40


@pytest.fixture(scope="module", params=["shipped", "bytes"])
def tokenizer(request, tmp_path_factory) -> Path:
    """That of the shipped models; and one that knows bytes only, whose names, words and sums have many tokens."""
    if request.param == "shipped":
        return SHIPPED
    folder = tmp_path_factory.mktemp("bytes")
    save_tokenizer(train_bpe(["a"], 257), folder)
    return folder


def prompts(tokenizer: Path, kind: str, seed: int = 1) -> SampledTokens:
    return make_prompts(tokenizer, kind, N, longest=200, seed=seed)


def texts(tokenizer: Path, sampled: SampledTokens) -> list[tuple[str, str, str]]:
    """Of each row the text before its last answer, the text with it, and the text with the alternative in its place."""
    decode = decoder(tokenizer)
    tokens, answer, other = (token_matrix(sampled.tokens, c) for c in ("token", "answer", "alternative"))
    found = []
    for row, answers, others in zip(tokens.tolist(), answer, other, strict=True):
        (*_, at) = answers.nonzero()[0].tolist()
        assert at == len(row) - 1 and (others >= 0).nonzero()[0].tolist() == [at]
        found.append((decode(row[1:at]), decode(row[1:]), decode([*row[1:at], int(others[at])])))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_one_prompt_each_and_equally_long(tokenizer, kind):
    sampled = prompts(tokenizer, kind)
    assert sampled.tokens.schema == {name: column.dtype for name, column in TOKENS.items()}
    assert sampled.rows.schema == {name: column.dtype for name, column in ROWS.items()}
    assert sampled.documents.schema == {name: column.dtype for name, column in DOCUMENTS.items()}
    tokens, document, offset = (token_matrix(sampled.tokens, c) for c in ("token", "document", "offset"))
    assert len(tokens) == N and (tokens[:, 0] == 0).all() and (tokens[:, 1:] != 0).all()
    assert (document[:, 1:] == np.arange(N)[:, None]).all() and (offset[:, 1:] == np.arange(tokens.shape[1] - 1)).all()
    assert sampled.documents["kind"].unique().to_list() == [kind]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_makes_the_same_prompts_and_another_does_not(tokenizer, kind):
    one, again, other = prompts(tokenizer, kind), prompts(tokenizer, kind), prompts(tokenizer, kind, seed=2)
    assert one.tokens.equals(again.tokens) and one.rows.equals(again.rows)
    assert not one.tokens.equals(other.tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_replaced_by_one_with_other_answers(tokenizer, kind):
    """Otherwise what makes the answer would stay in place."""
    sampled = prompts(tokenizer, kind)
    answers = np.where(token_matrix(sampled.tokens, "answer") == 1, token_matrix(sampled.tokens), -1)
    source = sampled.rows.sort("row")["source"].to_numpy()
    assert sorted(source) == list(range(N))
    assert all((answers[row] != answers[other]).any() for row, other in enumerate(source))


def test_sums_are_right_and_their_alternatives_wrong(tokenizer):
    for before, right, wrong in texts(tokenizer, prompts(tokenizer, "arithmetic")):
        *lines, last = before.split("\n")
        assert len(lines) == SUMS - 1
        for line in lines:
            a, b, total = map(int, re.fullmatch(r"(\d)\+(\d)=(\d+)", line).groups())
            assert a + b == total
        a, b = map(int, re.fullmatch(r"(\d)\+(\d)=", last).groups())
        assert right == f"{before}{a + b}" and wrong in [f"{before}{result}" for result in range(2, 10)]
        assert right != wrong


def test_induction_repeats_exactly(tokenizer):
    sampled = prompts(tokenizer, "induction")
    tokens, answer = token_matrix(sampled.tokens), token_matrix(sampled.tokens, "answer")
    assert (tokens[:, 1 : REPEATED + 1] == tokens[:, REPEATED + 1 :]).all()
    assert tokens.shape[1] == 2 * REPEATED + 1
    assert (answer.nonzero()[1].reshape(N, -1) == np.arange(REPEATED + 2, 2 * REPEATED + 1)).all()
    assert sampled.tokens["alternative"].is_null().all()
    assert len(np.unique(tokens[:, 1 : REPEATED + 1])) > 100, "not random"


def test_lists_are_copied(tokenizer):
    sampled = prompts(tokenizer, "copying")
    tokens, answer = token_matrix(sampled.tokens), token_matrix(sampled.tokens, "answer")
    line = 4 * WORDS  # tokens of a line: words with commas between, twice, a colon and a newline
    for row, answers in zip(tokens[:, 1:], answer[:, 1:], strict=True):
        for start in range(0, LISTS * line, line):
            listed = row[start : start + 2 * WORDS - 1]
            assert (listed == row[start + 2 * WORDS : start + 4 * WORDS - 1]).all()
        last = row[(LISTS - 1) * line :]
        assert row[answers == 1].tolist() == last[: 2 * WORDS : 2].tolist()
        assert answers.nonzero()[0].min() >= (LISTS - 1) * line + 2 * WORDS


def test_lists_are_of_words_where_the_tokenizer_has_them():
    text = decoder(SHIPPED)(token_matrix(prompts(SHIPPED, "copying").tokens)[0, 1:].tolist())
    words = r"( [a-z]{3,}(?:, [a-z]{3,}){4})"
    assert all(re.fullmatch(rf"{words}:\1", line) for line in text.split("\n"))


def test_the_indirect_object_is_the_name_that_occurs_once(tokenizer):
    orders = set()
    for before, right, wrong in texts(tokenizer, prompts(tokenizer, "ioi")):
        sentence = right[: len(before)]
        mentioned = [word for word in re.findall(r"[A-Z][a-z]+", sentence) if word in NAMES]
        names = sorted(set(mentioned[:3]), key=mentioned[:3].count)
        assert [mentioned[:3].count(name) for name in names] == [1, 2]
        end = sentence.rindex(" to") + len(" to ")
        assert names[0].startswith(right[end:]) and names[1].startswith(wrong[end:])
        assert not names[1].startswith(right[end:]) and not names[0].startswith(wrong[end:])
        orders.add(mentioned[0] == names[0])
    assert orders == {True, False}, "the indirect object always stands at the same place"


def test_prompts_that_do_not_fit_into_a_row_are_refused():
    with pytest.raises(
        CorpusError, match=r"induction have 61 tokens, more than the 60 of a row; raise `tokens.row_len"
    ):
        make_prompts(SHIPPED, "induction", 4, longest=60, seed=1)


def test_a_tokenizer_that_knows_no_names_is_refused(tmp_path):
    """One unknown token for every word: nothing tells the right answer from the wrong one."""
    save_tokenizer(Tokenizer(models.WordLevel({END_OF_TEXT: 0, "?": 1}, unk_token="?")), tmp_path)
    with pytest.raises(CorpusError, match="only 0 of 4 prompts of the kind ioi of one length could be made"):
        make_prompts(tmp_path, "ioi", 4, longest=100, seed=1)


def test_the_program_makes_prompts_in_place_of_a_corpus(tmp_path):
    sample(tmp_path / "no corpus", SHIPPED, 6, 128, 3, tmp_path / "rows", prompts="ioi")
    wanted = make_prompts(SHIPPED, "ioi", 6, 128, 3)
    for name in ("tokens", "rows", "documents"):
        assert pl.read_parquet(tmp_path / f"rows/{name}.parquet").equals(getattr(wanted, name))


# Distributions of a run.


@pytest.fixture
def corpus(tmp_path) -> Path:
    texts = [f"word {i} and {'more ' * (i % 9)} words" for i in range(60)]
    path = tmp_path / "corpus.parquet"
    pl.DataFrame({"kind": ["prose", "code", "code"] * 20, "text": texts}).write_parquet(path)
    return path


def test_each_kind_of_the_corpus_has_rows_of_its_own_documents(corpus):
    found = sample_distributions(corpus, SHIPPED, ["code", "prose", "ioi", "text"], 8, 12, 128, seed=1)
    assert list(found) == ["code", "prose", "text", "ioi"]
    for kind in ("prose", "code"):
        assert found[kind].documents["kind"].unique().to_list() == [kind]
        assert found[kind].rows.height == 8 and found[kind].tokens["pos"].max() == 11
        assert not found[kind].tokens["answer"].any()
    assert set(found["text"].documents["kind"]) == {"prose", "code"}
    assert found["ioi"].tokens.equals(make_prompts(SHIPPED, "ioi", 8, 128, 1).tokens)


def test_a_kind_gives_the_rows_that_it_fills(corpus):
    found = sample_distributions(corpus, SHIPPED, ["prose"], 10_000, 12, 128, seed=1)
    assert 10 < found["prose"].rows.height < 100


def test_text_stands_for_kinds_that_the_corpus_does_not_have(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(f'{{"text": "words of line {i}"}}\n' for i in range(60)))
    assert list(sample_distributions(path, SHIPPED, ["prose", "code"], 4, 12, 128, seed=1)) == ["text"]


def test_a_distribution_that_can_not_be_made_is_named(corpus):
    with pytest.raises(CorpusError, match=r"experiments.distributions: induction: prompts of the kind induction"):
        sample_distributions(corpus, SHIPPED, ["prose", "induction"], 4, 12, 48, seed=1)
