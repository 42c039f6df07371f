"""What a rule reads that no rule makes, by content: Snakemake looks at times, and a file put back can be an old one."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

KNOWN = Path(".snakemake/content.json")  # of large files: what was read at a size, time and inode
LARGE = 1_000_000  # bytes from which on a file is not read anew at every start


def content_of(inputs: Iterable[Any], made: str) -> Callable[[Any], str]:
    """Function of a job's wildcards that gives the SHA-256 of the sources among its rule's inputs.

    It is made a parameter of the rule, so that other content means another job, whatever the files' times say.

    Args:
        inputs: of the rule: paths, and functions of the wildcards.
        made: where the paths begin that rules make.
    """

    def content(wildcards: Any) -> str:
        files = [file for item in inputs for file in _several(item(wildcards) if callable(item) else item)]
        sources = sorted({file for file in files if not file.startswith(made) and os.path.isfile(file)})
        return hashlib.sha256("".join(f"{file}\0{_digest(file)}\0" for file in sources).encode()).hexdigest()

    return content


@cache
def _digest(file: str) -> str:
    found = os.stat(file)
    if found.st_size < LARGE:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    # The time of the last change of the inode can't be set back, as that of the file can.
    state = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
    known = json.loads(KNOWN.read_text()) if KNOWN.is_file() else {}
    if known.get(file, {}).get("state") != state:
        with open(file, "rb") as opened:
            known[file] = {"state": state, "sha256": hashlib.file_digest(opened, "sha256").hexdigest()}
        KNOWN.parent.mkdir(exist_ok=True)
        partial = KNOWN.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(known))
        partial.replace(KNOWN)
    return known[file]["sha256"]


def _several(files: str | Iterable[str]) -> list[str]:
    return [str(files)] if isinstance(files, (str, os.PathLike)) else [str(file) for file in files]
