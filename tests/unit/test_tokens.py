"""Rows are cut from the documents without a token lost or invented, and paired across documents."""

import json
import random
import re
import shutil

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from selfrepair.tokens.corpora import check_parquet, read_corpus
from selfrepair.tokens.corpus_file import CorpusError, check_corpus_file, check_sha256
from selfrepair.tokens.rows import SampledTokens, derange, sample_tokens, token_matrix
from selfrepair.tokens.sample import sample as sample_corpus
from selfrepair.tokens.schema import DOCUMENTS, ROWS, TOKENS
from selfrepair.tokens.tokenizer import END_OF_TEXT, decoder, encode, save_tokenizer, train_bpe

BOS, SEPARATOR = 0, 1


def documents(n: int) -> pl.DataFrame:
    names = {"name": [f"d{i}" for i in range(n)], "kind": ["prose", "code"] * (n // 2) + ["prose"] * (n % 2)}
    return pl.DataFrame(names).with_columns(text=pl.lit(""))


def encoded(n: int, seed: int = 0) -> list[list[int]]:
    """Documents of 0 to 30 tokens, no two tokens alike, so that a token's place is known."""
    drawn, start, result = random.Random(seed), 2, []
    for _ in range(n):
        length = drawn.randint(0, 30)
        result.append(list(range(start, start + length)))
        start += length
    return result


def sample(texts: list[list[int]], n_rows: int, row_length: int, seed: int = 3) -> SampledTokens:
    return sample_tokens(
        encoded=texts,
        bos=BOS,
        separator=SEPARATOR,
        documents=documents(len(texts)),
        n_rows=n_rows,
        row_length=row_length,
        seed=seed,
    )


def test_every_token_is_where_its_document_says():
    """Otherwise effects would be ascribed to the wrong text; separators are kept, as the last token of a document."""
    texts = encoded(60)
    sampled = sample(texts, n_rows=40, row_length=12)
    matrix, document, offset = (token_matrix(sampled.tokens, c) for c in ("token", "document", "offset"))
    assert matrix.shape == (40, 12)
    assert (matrix[:, 0] == BOS).all()
    assert (document[:, 0] == -1).all()
    assert (offset[:, 0] == -1).all()
    ended = [[*text, SEPARATOR] for text in texts]
    for token, d, o in zip(matrix[:, 1:].flat, document[:, 1:].flat, offset[:, 1:].flat, strict=True):
        assert token == ended[d][o]


def test_all_rows_in_order_are_the_documents():
    """Drawing as many rows as there are gives the whole text back, without gaps or repetition."""
    texts = encoded(60)
    stream = [token for text in texts for token in (*text, SEPARATOR)]
    packed = len(stream) // 11
    matrix = token_matrix(sample(texts, n_rows=packed, row_length=12).tokens)
    assert matrix[:, 1:].ravel().tolist() == stream[: packed * 11]


def test_the_same_seed_draws_the_same_rows_and_another_does_not():
    texts = encoded(100)
    one, again, other = sample(texts, 20, 12), sample(texts, 20, 12), sample(texts, 20, 12, seed=4)
    assert one.tokens.equals(again.tokens)
    assert one.rows.equals(again.rows)
    assert not one.tokens.equals(other.tokens)


def test_rows_spread_over_the_corpus():
    """Taking the first rows instead would measure only the first documents."""
    sampled = sample(encoded(400), n_rows=20, row_length=12)
    assert sampled.tokens["document"].max() > 200


def test_sources_share_no_document_with_their_rows():
    """experiments.md pitfall:paired-rows: a source from the same text would leave the ablated information in place."""
    sampled = sample(encoded(80), n_rows=60, row_length=12)
    document = token_matrix(sampled.tokens, "document")[:, 1:]
    source = sampled.rows.sort("row")["source"].to_numpy()
    assert sorted(source) == list(range(60))
    for row, other in enumerate(source):
        assert set(document[row]).isdisjoint(document[other])


def test_tables_have_the_documented_columns():
    sampled = sample(encoded(40), n_rows=10, row_length=12)
    assert sampled.tokens.schema == {name: column.dtype for name, column in TOKENS.items()}
    assert sampled.rows.schema == {name: column.dtype for name, column in ROWS.items()}
    assert sampled.documents.schema == {name: column.dtype for name, column in DOCUMENTS.items()}
    assert sampled.documents["document"].to_list() == list(range(40))


def test_too_few_tokens_are_refused_with_both_numbers():
    """The reader must learn how much there is, and what to change."""
    with pytest.raises(CorpusError) as caught:
        sample([list(range(2, 40))] * 3, n_rows=12, row_length=11)
    for words in ("117 tokens", "11 rows of 11", "12 rows", "lower `tokens.rows`", "`tokens.kinds`"):
        assert words in str(caught.value)


def test_token_matrix_does_not_depend_on_the_order_of_the_table():
    tokens = sample(encoded(40), n_rows=10, row_length=12).tokens
    assert np.array_equal(token_matrix(tokens.sample(fraction=1, shuffle=True, seed=0)), token_matrix(tokens))


# Pairing rows.


@given(st.lists(st.frozensets(st.integers(0, 30), min_size=1, max_size=3), min_size=1, max_size=40), st.integers(0, 99))
def test_derange_pairs_rows_of_different_documents_or_refuses(sets, seed):
    """A permutation, so that every row is used once; never a row with its own text."""
    try:
        source = derange(sets, np.random.default_rng(seed))
    except CorpusError as refusal:
        assert "can't be paired with a row of another document" in str(refusal)
        assert not (len(sets) > 1 and len(frozenset.union(*sets)) == sum(map(len, sets)))  # all disjoint: possible
        return
    assert sorted(source) == list(range(len(sets)))
    assert all(row.isdisjoint(sets[other]) for row, other in zip(sets, source, strict=True))


def test_derange_finds_the_only_pairing():
    """Rows that overlap in a chain, as neighbours in packed text do: 0-2, 1-3 is possible, so it must be found."""
    chain = [frozenset({i, i + 1}) for i in range(4)]
    for seed in range(20):
        assert derange(chain, np.random.default_rng(seed)).tolist() == [2, 3, 0, 1]


@pytest.mark.parametrize("sets", [[frozenset({0})], [frozenset({0})] * 6 + [frozenset({1}), frozenset({2})]])
def test_derange_refuses_the_impossible(sets):
    """One document fills more than half of the rows."""
    with pytest.raises(CorpusError, match=r"of \d rows can't be paired .*use more documents"):
        derange(sets, np.random.default_rng(0))


def test_derange_pairs_two_documents_that_share_the_rows_equally():
    """The tightest case that has an answer."""
    sets = [frozenset({i % 2}) for i in range(64)]
    source = derange(sets, np.random.default_rng(0))
    assert ((source - np.arange(64)) % 2 == 1).all()


# Reading corpora.

TABLE = pl.DataFrame(
    {
        "document": ["a", "b", "c"],
        "kind": ["prose", "code", "prose"],
        "split": ["train", "held_out", "held_out"],
        "text": ["One.\n\nTwo.", "x = 1", "Ümlaut €"],
    }
)


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_tables_are_read_and_filtered(tmp_path, suffix):
    """Held-out prose must not contain training text or code."""
    path = tmp_path / f"corpus{suffix}"
    TABLE.write_parquet(path) if suffix == ".parquet" else TABLE.write_ndjson(path)
    whole = read_corpus(path, "text", None, [])
    assert whole.rows() == [(n, k, t) for n, k, _, t in TABLE.rows()]
    assert read_corpus(path, "text", "held_out", []).rows() == [("b", "code", "x = 1"), ("c", "prose", "Ümlaut €")]
    assert read_corpus(path, "text", "held_out", ["prose"]).rows() == [("c", "prose", "Ümlaut €")]


def test_a_table_without_names_and_kinds_is_numbered(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"content": text}) + "\n" for text in ("one", "two")))
    assert read_corpus(path, "content", None, []).rows() == [("0", "text", "one"), ("1", "text", "two")]


def test_a_text_file_is_one_document(tmp_path):
    """Otherwise its lines would become documents, and rows be paired within one text."""
    path = tmp_path / "book.txt"
    path.write_text("Call me Ishmael.\n\nSome years ago\n")
    assert read_corpus(path, "text", None, [])["text"].to_list() == ["Call me Ishmael.\n\nSome years ago\n"]


def test_marked_lines_divide_a_text_file(tmp_path):
    """Otherwise a text file could not be measured: all its rows would be of one document."""
    path = tmp_path / "stories.txt"
    path.write_text("One.\nMore.\n<|endoftext|>\nTwo.\n<|endoftext|>\n")
    assert read_corpus(path, "text", None, [])["text"].to_list() == ["One.\nMore.", "Two."]


def test_separators_in_a_row_or_with_spaces_divide_once(tmp_path):
    """Otherwise their letters would be measured as text."""
    path = tmp_path / "stories.txt"
    mark = "<|endoftext|>"
    for begin, end, last in (
        ("", "", "Two.\n"),
        (f"{mark}\n{mark} \n", f"{mark}\n{mark}", "Two."),
        (f"{mark}\t\n", f"{mark} ", "Two."),
    ):
        path.write_text(f"{begin}One.\n{mark} \n{mark}\nTwo.\n{end}")
        assert read_corpus(path, "text", None, [])["text"].to_list() == ["One.", last]
    path.write_text(mark)
    with pytest.raises(CorpusError, match="has no document"):
        read_corpus(path, "text", None, [])


def test_a_document_without_a_kind_is_text(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "kind": "prose"}\n{"text": "b"}\n')
    assert read_corpus(path, "text", None, [])["kind"].to_list() == ["prose", "text"]


def test_columns_with_the_signs_of_patterns_are_themselves(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"x1": ["no"], "^x.*$": ["a"], "*": ["b"]}).write_parquet(path)
    for column, text in (("^x.*$", "a"), ("*", "b")):
        assert read_corpus(path, column, None, [])["text"].to_list() == [text]
    with pytest.raises(CorpusError, match="`kind` is where a document's kind stands, no text"):
        read_corpus(path, "kind", None, [])


def test_text_in_utf_16_is_refused(tmp_path):
    path = tmp_path / "stories.txt"
    path.write_bytes("Call me Ishmael.".encode("utf-16-le"))
    with pytest.raises(CorpusError, match="full of NUL, as text in UTF-16 is"):
        read_corpus(path, "text", None, [])


def test_a_row_is_never_replaced_by_the_same_tokens():
    """Nothing would change, and heads would seem not to matter."""
    documents = pl.DataFrame({"name": ["a", "b"], "kind": ["text", "text"]})
    with pytest.raises(CorpusError, match="would be replaced by one with the same tokens"):
        sample_tokens([[1, 2, 3], [1, 2, 3]], 0, 0, documents, n_rows=2, row_length=5, seed=0)


def test_a_text_that_is_there_twice_counts_once(tmp_path, capsys):
    table = pl.DataFrame({"text": [f"{'abcdefgh' * 9}{i % 3}" for i in range(6)], "document": list("abcdef")})
    table.write_parquet(tmp_path / "corpus.parquet")
    save_tokenizer(train_bpe(table["text"].to_list(), 270), tmp_path / "tokenizer")
    sample_corpus(tmp_path / "corpus.parquet", tmp_path / "tokenizer", 2, 4, 1, tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out/documents.parquet")["name"].to_list() == ["a", "b", "c"]
    assert "3 documents are left out, as their text was there before" in capsys.readouterr().out


def test_a_first_token_beyond_the_models_vocabulary_is_refused(tmp_path):
    """Every row begins with it."""
    save_tokenizer(train_bpe(["a b c"], 260), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "vocab_size": 257}))
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text()) | {"bos_token": "<s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(CorpusError, match=r"gives '<s>' the number .*, but by config.json the model has 257 tokens"):
        encode(tmp_path, ["a b"])


@pytest.mark.parametrize("text", ["{", "[]", '{"model": {"vocab": {"a": 0}}}'])
def test_a_tokenizer_that_can_not_be_read_is_said_to_be(tmp_path, text):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(CorpusError, match="transformers can't read the tokenizer"):
        encode(tmp_path, ["a"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("content", None, []), "has no column `content`; it has document, kind, split, text"),
        (("text", "test", []), "no document of split test and kinds []"),
        (("text", None, ["prose", "cod"]), "no document of kind cod; it has code, prose"),
        (("text", None, ["poetry"]), "no document of kind poetry; it has code, prose"),
    ],
)
def test_what_a_corpus_lacks_is_named(tmp_path, arguments, said):
    TABLE.write_parquet(tmp_path / "corpus.parquet")
    for check in (read_corpus, check_parquet):
        with pytest.raises(CorpusError) as caught:
            check(tmp_path / "corpus.parquet", *arguments)
        assert str(tmp_path / "corpus.parquet") in str(caught.value)
        assert said in str(caught.value)


def test_a_choice_by_a_column_that_is_not_there_is_refused(tmp_path):
    """Otherwise `kinds: [prose]` would silently take everything."""
    TABLE.select("text").write_parquet(tmp_path / "corpus.parquet")
    with pytest.raises(CorpusError, match=r"has no column `kind`, so \['prose'\] can't be chosen"):
        read_corpus(tmp_path / "corpus.parquet", "text", None, ["prose"])


def test_a_parquet_file_is_checked_without_its_texts(tmp_path):
    TABLE.write_parquet(tmp_path / "corpus.parquet")
    check_parquet(tmp_path / "corpus.parquet", "text", "held_out", ["prose"])
    (tmp_path / "corpus.parquet").write_bytes(b"PAR1 not PAR1")
    with pytest.raises(CorpusError, match="can't be read"):
        check_parquet(tmp_path / "corpus.parquet", "text", None, [])


def test_absent_and_unknown_files_are_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"none\.parquet does not exist; correct its path"):
        read_corpus(tmp_path / "none.parquet", "text", None, [])
    with pytest.raises(CorpusError, match=r"is no file; correct its path"):
        read_corpus(tmp_path, "text", None, [])
    (tmp_path / "corpus.pdf").write_text("")
    with pytest.raises(CorpusError, match=r"`\.pdf` is not supported; use one of \.parquet, \.jsonl"):
        read_corpus(tmp_path / "corpus.pdf", "text", None, [])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"text": "one"}\n{"text": \n', "line 2 is no JSON"),
        ("a.jsonl", b'{"text": "one"}\n\n{"words": "x"}\n', "line 3 has no `text`"),
        ("a.jsonl", b'{"text": 7}\n', "line 1: `text` is 7, no text"),
        ("a.jsonl", b'["text"]\n', "line 1 has no `text`"),
        ("a.txt", b"fine\ncaf\xe9\n", "line 2 is no UTF-8"),
        ("a.parquet", b"PAR1 cut short", "is cut short or no Parquet file"),
        ("a.parquet", b"PAR1 not PAR1", "can't be read"),
        ("a.txt", b"", "a.txt is empty"),
        ("a.json", b'[{"text": 7}, {"text": 8}]', "record 1: `text` is 7, no text"),
        ("a.json", b'\n [{"text": "a"}, {"text": "b", "kind": 3}]', "record 2: `kind` is 3, no text"),
        ("a.json", b'[{"text": "a"}', "a.json is no JSON"),
        ("a.json", b'[{"text": "a", "text": "b"}]', "is no JSON (the key 'text' is there twice)"),
        ("a.json", b'{"text": "a"}\n{"text": "b", "split": 3}\n', "line 2: `split` is 3, no text"),
        ("a.json", b'["caf\xe9"]', "a.json, line 1 is no UTF-8"),
        ("a.jsonl", b'{"text": "a", "document": null}\n{"text": "b", "document": 3}\n', "line 2: `document` is 3"),
        ("a.jsonl", b'{"text": "a\\ud800b"}\n', "line 1: `text` holds half of a character"),
        ("a.json", b"[]", "has no column `text`; it has no rows"),
    ],
)
def test_a_corpus_that_can_not_be_read_is_named_with_its_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=re.escape(said)):
        read_corpus(tmp_path / name, "text", None, [])


def test_one_kind_that_is_no_text_is_found_among_many(tmp_path):
    records = [{"text": f"Text {i}.", "kind": "prose"} for i in range(3000)] + [{"text": "x", "kind": 3}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    check_corpus_file(tmp_path / "a.jsonl", "text", most=1000)
    with pytest.raises(CorpusError, match="line 3001: `kind` is 3, no text; put it in quotes"):
        read_corpus(tmp_path / "a.jsonl", "text", None, ["prose"])


@pytest.mark.parametrize("name", ["c[1].jsonl", "c*.jsonl", "c?::d.jsonl"])
def test_texts_and_names_that_look_like_something_else_are_read_as_they_are(tmp_path, name):
    """A library would take the path for a pattern, and dates for numbers."""
    (tmp_path / "c1.jsonl").write_text('{"text": "another"}\n')
    lines = [{"text": f"2024-01-0{i}", "document": f"2023-0{i}-01", "other": i} for i in (1, 2)]
    (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"text": "1", "late": [1]}\n')
    found = read_corpus(tmp_path / name, "text", None, [])
    assert found["text"].to_list() == ["2024-01-01", "2024-01-02", "1"]
    assert found["name"].to_list() == ["2023-01-01", "2023-02-01", "2"]


@pytest.mark.parametrize("column", ["split", "kind"])
def test_a_choice_by_numbers_is_refused(tmp_path, column):
    pl.DataFrame({"text": ["a", "b"], column: [1, 2]}).write_parquet(tmp_path / "corpus.parquet")
    chosen = ("1", []) if column == "split" else (None, ["1"])
    for check in (read_corpus, check_parquet):
        with pytest.raises(CorpusError, match=f"`{column}` is Int64, no text; convert it, or do not choose by it$"):
            check(tmp_path / "corpus.parquet", "text", *chosen)


def test_a_byte_order_mark_and_separators_at_the_ends_are_no_text(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeff<|endoftext|>\nOne.\n<|endoftext|>\nTwo.\n<|endoftext|>", encoding="utf-8")
    assert read_corpus(tmp_path / "a.txt", "text", None, [])["text"].to_list() == ["One.", "Two."]


def test_what_looks_like_a_special_token_in_a_text_is_text(tmp_path):
    save_tokenizer(train_bpe(["some text of a document"] * 3, 300), tmp_path)
    ((ids,), bos, _) = encode(tmp_path, ["a <|endoftext|> b"])
    assert bos not in ids and decoder(tmp_path)(ids) == "a <|endoftext|> b"


def test_a_changed_corpus_is_refused(tmp_path):
    """Otherwise results would silently come from another text."""
    (tmp_path / "a.txt").write_text("a")
    expected = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    check_sha256(tmp_path / "a.txt", expected)
    check_sha256(tmp_path / "a.txt", "")
    with pytest.raises(CorpusError, match=f"a.txt has SHA-256 {expected}, not {'0' * 64}; restore"):
        check_sha256(tmp_path / "a.txt", "0" * 64)


# Tokenizers.


def test_a_tokenizer_that_draws_its_tokens_is_refused(tmp_path):
    """Dropout is applied whenever a text is encoded, and takes no seed."""
    save_tokenizer(BPE, tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text(file.read_text().replace('"dropout": null', '"dropout": 0.5'))
    with pytest.raises(CorpusError, match=r"tokenizer\.json: with a `dropout` of 0\.5 .*; set it to null"):
        encode(tmp_path, ["a"])


BPE = train_bpe(["the cat sat on the mat\n" * 20, "for i in range(10):\n    print(i)\n" * 20], 280)
TRICKY = "def f(x):\n\treturn x  # naïve\n\n  'Œuvre', 3.14 — 日本語 🙂\x00"


@settings(max_examples=50)
@given(st.text(max_size=80))
def test_the_shipped_kind_of_tokenizer_keeps_any_text(text):
    """Otherwise characters outside the training text would vanish from the rows."""
    ids = BPE.encode(text).ids
    assert BPE.decode(ids, skip_special_tokens=False) == text


def test_the_shipped_tokenizer_begins_with_end_of_text():
    assert BPE.token_to_id(END_OF_TEXT) == 0
    assert BPE.get_vocab_size() == 280


@pytest.mark.parametrize("name", ["gpt2", "neox"])
def test_real_tokenizers_keep_the_text(shared, name):
    """GPT-2's and Pythia's own tokenizers, on prose, code and what is rare in both."""
    tokenizer = Tokenizer.from_file(str(shared(f"tokenizers/{name}/tokenizer.json")))
    assert tokenizer.decode(tokenizer.encode(TRICKY, add_special_tokens=False).ids) == TRICKY


@pytest.mark.parametrize(("name", "family", "end"), [("gpt2", "gpt2", 50256), ("neox", "gpt_neox", 0)])
def test_rows_of_real_tokenizers_begin_with_their_end_of_text(shared, tmp_path, name, family, end):
    """GPT-2 and Pythia have no beginning-of-text token; theirs for the end of a text is both (experiments.md a.5)."""
    folder = tmp_path / name
    shutil.copytree(shared(f"tokenizers/{name}"), folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    (folder / "config.json").write_text(json.dumps({"model_type": family}))
    (ids, again), bos, separator = encode(folder, [TRICKY, TRICKY])
    assert (bos, separator) == (end, end)
    assert ids == again and end not in ids
    assert Tokenizer.from_file(str(folder / "tokenizer.json")).decode(ids) == TRICKY
    documents = pl.DataFrame({"name": ["a", "b"], "kind": ["text", "text"]})
    other = ids[::-1]
    sampled = sample_tokens([ids, other], bos, separator, documents, n_rows=2, row_length=len(ids) + 2, seed=0)
    assert token_matrix(sampled.tokens).tolist() == [[end, *ids, end], [end, *other, end]]


@pytest.mark.parametrize("name", ["stories260K", "gpt280K"])
def test_a_models_own_tokenizer_adds_nothing_to_documents(shared, name):
    """Rows get their beginning-of-text token from the packing; a second one inside would be read as text."""
    folder = shared(f"models/{name}")
    (ids, again), bos, separator = encode(folder, ["Once upon a time", "Once upon a time"])
    assert ids == again
    assert not {bos, separator} & set(ids)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.decode(ids).strip() == "Once upon a time"
