"""Corpora: documents of real text, kept apart, with a kind (prose or code) and a fixed split.

A corpus is a Parquet table with the columns of `CORPUS_SCHEMA`. The one that the package ships is made here
from an installed CPython: the documentation topics and the docstrings are prose, the source without its
docstrings is code, so no sentence stands in it twice.
"""

import ast
import hashlib
import sysconfig
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from selfrepair.core.tables import write_parquet

CORPUS_SCHEMA = {"document": pl.String, "kind": pl.String, "split": pl.String, "text": pl.String}
HELD_OUT_SHARE = 1 / 7
# Not source that a person wrote to be read: tests, bundled wheels, generated tables, installed packages.
EXCLUDED_FOLDERS = {"__pycache__", "_bundled", "encodings", "idle_test", "pydoc_data", "site-packages", "test", "tests"}
NAMED = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
DOCUMENTED = ast.Module | NAMED


@dataclass(frozen=True)
class Document:
    """One text of a corpus.

    Attributes:
        document: unique name, e.g. `code/json/decoder.py`.
        kind: `prose` or `code`.
        split: `train` or `held_out`; all documents made from one module are in the same split.
        text: the text itself.
    """

    document: str
    kind: str
    split: str
    text: str


def split_of(origin: str) -> str:
    """Return the split of everything made from `origin`: a hash of the name, so it never depends on the machine."""
    fraction = int.from_bytes(hashlib.sha256(origin.encode()).digest()[:8], "big") / 2**64
    return "held_out" if fraction < HELD_OUT_SHARE else "train"


def build_python_corpus(library: Path, topics: dict[str, str]) -> pl.DataFrame:
    """Turn a standard library into documents.

    Args:
        library: the folder of the library's modules (`sysconfig.get_path("stdlib")`).
        topics: documentation topics, as in `pydoc_data.topics.topics`.

    Returns:
        one row a document, with the columns of `CORPUS_SCHEMA`, sorted by name.
    """
    documents = [Document(f"topics/{name}", "prose", split_of(f"topics/{name}"), text) for name, text in topics.items()]
    for path in sorted(library.rglob("*.py")):
        relative = path.relative_to(library)
        built = any(part.startswith(("config-", "_sysconfigdata")) for part in relative.parts)  # this machine's build
        if not built and not EXCLUDED_FOLDERS.intersection(relative.parts):
            documents += _module_documents(relative.as_posix(), path.read_bytes())
    return pl.DataFrame([asdict(d) for d in documents], schema=CORPUS_SCHEMA).sort("document")


def standard_library_topics() -> dict[str, str]:
    """Return the documentation topics of the running Python, by name."""
    from pydoc_data.topics import topics

    return topics


def _module_documents(name: str, raw: bytes) -> Iterator[Document]:
    try:
        source = raw.decode("utf-8")
        tree = ast.parse(source)
    except (UnicodeDecodeError, SyntaxError):
        return  # lib2to3 keeps Python 2 samples, some in Latin-1: not text of this corpus
    origin = name.removesuffix(".py")
    for kind, text in (("docstrings", _docstrings(tree, origin)), ("code", _without_docstrings(tree, source))):
        if len(text) > 200:
            yield Document(f"{kind}/{name}", "prose" if kind == "docstrings" else "code", split_of(origin), text)


def _docstrings(tree: ast.Module, origin: str) -> str:
    """Every docstring of a module under the name and signature it documents, in the manner of a reference page."""
    entries = []

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, NAMED):
                name = f"{prefix}.{child.name}"
                if docstring := ast.get_docstring(child):
                    arguments = "" if isinstance(child, ast.ClassDef) else f"({ast.unparse(child.args)})"
                    entries.append(f"{name}{arguments}\n{textwrap.indent(docstring, '    ')}")
                visit(child, name)

    module = origin.replace("/", ".").removesuffix(".__init__")
    if docstring := ast.get_docstring(tree):
        entries.append(f"{module}\n{textwrap.indent(docstring, '    ')}")
    visit(tree, module)
    return "\n\n".join(entries) + "\n" if entries else ""


def _without_docstrings(tree: ast.Module, source: str) -> str:
    # Lines as the parser counts them: not at form feeds.
    lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    gone: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            assert first.end_lineno and first.end_col_offset is not None  # what is parsed has them
            at, end = first.lineno - 1, first.end_lineno
            before = lines[at].encode()[: first.col_offset].decode()
            after = lines[end - 1].encode()[first.end_col_offset :].decode()
            alone = not before.strip() and not after.partition("#")[0].strip()
            # A body that is only a docstring keeps a statement, so that the text stays valid Python.
            needed = len(node.body) == 1 and node is not tree
            keep = needed or not alone
            if keep:
                lines[at] = before + "pass" + ("" if alone else after)
            gone.update(range(at + keep, end))
    return "\n".join(line for at, line in enumerate(lines) if at not in gone).strip() + "\n"


def build_corpus(output: Path) -> None:
    """Build the corpus of CPython's standard library from the Python that runs this.

    Args:
        output: Parquet file to write.
    """
    corpus = build_python_corpus(Path(sysconfig.get_path("stdlib")), standard_library_topics())
    write_parquet(corpus, output)
    print(corpus.group_by("split", "kind").len().sort("split", "kind"))
