"""Files written whole or not at all, their checksums, and the Git checkout that holds them."""

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class TableError(ValueError):
    """A result that can't be read; the message names the file and the fix."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file and rename it, so that `path` is complete or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        write(temporary)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, complete or not at all."""
    write_atomically(path, lambda temporary: temporary.write_text(text))


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` that takes its place once it is complete, and is gone otherwise."""
    partial, replaced = (folder.with_name(f".{folder.name}.{state}") for state in ("partial", "replaced"))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            folder.rename(replaced)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def modifications() -> str | None:
    """Tracked files that differ from the commit, one in a line; None outside a Git checkout."""
    return git("status", "--porcelain", "--untracked-files=no")


def git(*command: str) -> str | None:
    """Output of a Git command, or None where there is no Git or this folder is not the top of a checkout."""
    top = _git("rev-parse", "--show-toplevel")
    return _git(*command) if top is not None and Path(top) == Path.cwd() else None


def git_command(*command: str) -> list[str]:
    """A Git command also for a checkout that belongs to another user, as in a container: its code runs all the same."""
    return ["git", "-c", f"safe.directory={Path.cwd()}", *command]


def _git(*command: str) -> str | None:
    try:
        done = subprocess.run(git_command(*command), capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, as `object_pairs_hook` of `json.loads`.

    Raises:
        ValueError: a key is there twice, of which `json` would take the last.
    """
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"the key {key!r} is there twice")
        seen[key] = value
    return seen
