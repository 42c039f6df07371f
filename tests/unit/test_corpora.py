"""A library becomes prose and code: every sentence once, all of one module in one split, code still code."""

import ast
from pathlib import Path

import polars as pl
import pytest

from selfrepair.tokens.stdlib_corpus import (
    CORPUS_SCHEMA,
    EXCLUDED_FOLDERS,
    HELD_OUT_SHARE,
    build_python_corpus,
    split_of,
)

FILLER = "\n".join(f"value_{i} = {i} * {i}" for i in range(20)) + "\n"
MODULE = f'''"""The module's own words.

A second paragraph about nothing in particular, long enough to matter to a reader of prose.
"""

import os


class Walker:
    """Walks over a thing, slowly and with care, until the thing has been walked over."""

    TEXT = """not a docstring"""

    def walk(self, steps: int = 3, *, fast: bool = False) -> None:
        """Take some steps.

            Indented more.

        Not indented.
        """

    async def rest(self):
        """Do nothing for a while, then do nothing for another while, then stop."""
        return os.name


def outer():
    def inner():
        """Words of the inner function."""
        return "inner"
    return inner


{FILLER}'''


def build(folder: Path, files: dict[str, str], topics: dict[str, str] | None = None) -> pl.DataFrame:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    return build_python_corpus(folder, topics or {})


def text_of(corpus: pl.DataFrame, document: str) -> str:
    return corpus.filter(document=document)["text"].item()


def docstrings(code: str) -> list[str]:
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [ast.get_docstring(node) for node in ast.walk(ast.parse(code)) if isinstance(node, nodes)]
    return [docstring for docstring in found if docstring]


def without_docstrings(code: str) -> str:
    """What the code must be equal to as a tree: docstrings cut, a body of nothing else kept with `pass`."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            node.body = node.body[1:] or ([] if isinstance(node, ast.Module) else [ast.Pass()])
    return ast.unparse(tree)


def test_code_has_lost_its_docstrings_and_nothing_else(tmp_path):
    """Otherwise a sentence stands in both kinds, or the code is not the library's."""
    code = text_of(build(tmp_path, {"walker.py": MODULE}), "code/walker.py")
    assert docstrings(code) == []
    assert ast.unparse(ast.parse(code)) == without_docstrings(MODULE)
    assert '"""not a docstring"""' in code


def test_prose_has_every_docstring_under_its_name(tmp_path):
    prose = text_of(build(tmp_path, {"deep/walker.py": MODULE}), "docstrings/deep/walker.py")
    for said in (
        "deep.walker\n    The module's own words.",
        "deep.walker.Walker\n    Walks over a thing",
        "deep.walker.Walker.walk(self, steps: int=3, *, fast: bool=False)\n    Take some steps.\n\n        Indented",
        "deep.walker.Walker.rest(self)\n    Do nothing",
        "deep.walker.outer.inner()\n    Words of the inner function.",
    ):
        assert said in prose
    assert "value_3" not in prose


@pytest.mark.parametrize(
    ("what", "module"),
    [
        (
            "a form feed, as in the standard library's older modules",
            '"""Words."""\n\f\nx = 1\n\f\ndef f():\n    """More."""\n    return 1\n',
        ),
        ("a line separator inside a string", 'x = "a\u2028b"\ndef f():\n    """More."""\n    return 1\n'),
        ("Windows line ends", '"""Words."""\r\nx = 1\r\ndef f():\r\n    """More."""\r\n    return 1\r\n'),
        ("tabs in a string", 'x = """a\tb"""\ndef f():\n\t"""More."""\n\treturn 1\n'),
        ("a docstring beside its definition", 'class E(Exception): "Words."\ndef f(): "More."\n'),
    ],
)
def test_code_survives(tmp_path, what, module):
    """Docstrings are cut by line; what breaks a line elsewhere than the parser does would cut something else."""
    module += FILLER
    code = text_of(build(tmp_path, {"a.py": module}), "code/a.py")
    assert ast.unparse(ast.parse(code)) == without_docstrings(module), what


def test_a_module_that_is_one_definition_keeps_its_indentation(tmp_path):
    module = "class Table:\n" + "".join(f"    value_{i} = {i} * {i}\n" for i in range(20))
    assert text_of(build(tmp_path, {"a.py": module}), "code/a.py") == module


def test_all_of_a_module_is_in_one_split(tmp_path):
    """Otherwise held-out code would have been explained in the training prose."""
    corpus = build(tmp_path, {f"package_{i}/walker.py": MODULE for i in range(40)})
    module = pl.col("document").str.split("/").list.slice(1).list.join("/")
    by_module = corpus.group_by(module.alias("module")).agg(pl.col("split").unique(), pl.col("kind").sort())
    assert len(by_module) == 40
    assert by_module["split"].list.len().to_list() == [1] * 40
    assert by_module["kind"].to_list() == [["code", "prose"]] * 40
    assert set(corpus["split"]) == {"train", "held_out"}
    origins = corpus["document"].str.split("/").list.slice(1).list.join("/").str.strip_suffix(".py")
    assert corpus["split"].to_list() == [split_of(origin) for origin in origins]


def test_the_split_depends_on_the_name_alone():
    """A share as announced, and these very values on every machine and in every year."""
    names = [f"package/module_{i}" for i in range(5000)]
    held_out = sum(split_of(name) == "held_out" for name in names) / 5000
    assert held_out == pytest.approx(HELD_OUT_SHARE, abs=0.02)
    known = {"json/decoder": "train", "typing": "train", "queue": "held_out", "topics/while": "held_out"}
    assert {name: split_of(name) for name in known} == known


def test_kinds_and_columns(tmp_path):
    corpus = build(tmp_path, {"walker.py": MODULE}, {"lambda": "Lambdas", "pass": "Pass"})
    assert corpus.schema == CORPUS_SCHEMA
    assert dict(corpus.select("document", "kind").rows()) == {
        "code/walker.py": "code",
        "docstrings/walker.py": "prose",
        "topics/lambda": "prose",
        "topics/pass": "prose",
    }
    assert corpus["document"].is_sorted()


def test_what_no_person_wrote_to_be_read_is_left_out(tmp_path):
    """Tests, caches, installed packages, build tables, and what this machine built."""
    excluded = [f"{folder}/a.py" for folder in EXCLUDED_FOLDERS] + [
        f"deep/{folder}/a.py" for folder in EXCLUDED_FOLDERS
    ]
    built = ["_sysconfigdata__linux.py", "config-3.11-linux/a.py"]
    tiny, other = {"tiny.py": "x = 1\n"}, {"notes.txt": MODULE}
    files = dict.fromkeys([*excluded, *built], MODULE) | tiny | other | {"kept.py": MODULE}
    assert build(tmp_path, files)["document"].to_list() == ["code/kept.py", "docstrings/kept.py"]


def test_what_is_no_python_of_today_is_left_out(tmp_path):
    """The library ships samples of Python 2 and of other encodings; they must not stop the build."""
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9\n" + FILLER.encode())
    assert build(tmp_path, {"old.py": "print 'x'\n" + FILLER, "kept.py": FILLER})["document"].to_list() == [
        "code/kept.py"
    ]
