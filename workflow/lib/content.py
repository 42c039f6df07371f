"""What a rule reads that no rule makes, by content: Snakemake looks at times, and a file put back can be an old one."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from arguments import several

from selfrepair.core.files import sha256

KNOWN = Path(".snakemake/content.json")  # of large files: what was read at a size, time and inode
LARGE = 1_000_000  # bytes from which on a file is not read anew at every start


def content_of(inputs: Iterable[Any], made: tuple[str, ...]) -> Callable[[Any], str]:
    """Function of a job's wildcards that gives the SHA-256 of the sources among its rule's inputs.

    It is made a parameter of the rule, so that other content means another job, whatever the files' times say.

    Args:
        inputs: of the rule: paths, and functions of the wildcards.
        made: how the paths begin that rules make.
    """

    def content(wildcards: Any) -> str:
        files = [file for item in inputs for file in several(item(wildcards) if callable(item) else item)]
        sources = sorted({file for file in files if not file.startswith(made) and os.path.isfile(file)})
        return hashlib.sha256("".join(f"{file}\0{digest(file)}\0" for file in sources).encode()).hexdigest()

    return content


@cache
def digest(file: str) -> str:
    """SHA-256 of a file."""
    found = os.stat(file)
    if found.st_size < LARGE:
        return sha256(Path(file))
    # The time of the last change of the inode can't be set back, as that of the file can.
    state = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
    known = _known()
    if known.get(file, {}).get("state") != state:
        known[file] = {"state": state, "sha256": sha256(Path(file))}
        KNOWN.parent.mkdir(exist_ok=True)
        own = KNOWN.with_name(f"content.{os.getpid()}.json")  # several may plan at once
        own.write_text(json.dumps(known))
        own.rename(KNOWN)
    return known[file]["sha256"]


def _known() -> dict[str, Any]:
    """What was read earlier; nothing if it can't be used, since all of it can be read again."""
    try:
        known = json.loads(KNOWN.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
