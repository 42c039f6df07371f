"""config/hub.lock.yaml: which commit of each hub repository is used, and the SHA-256 of each of its files.

Read when a run is planned, so only the standard library and YAML are imported; `hub` fetches and writes.
"""

import re
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

KINDS = ("models", "datasets")
HEADER = """\
# Commit and SHA-256 of every file of the models and data sets of a hub that configurations name: what fetches must
# find. What is not known yet is null ("*" stands for files that are not listed) and is filled in by the first fetch.
# `<id>@<branch>` is of a branch or tag other than main.
#
# The commits that came with the package are those of `main` on 2026-11-26, read where independent public projects had
# resolved them, most as `model_info(...).sha` or as the folder name of a snapshot; each was seen in three or more of
# them, and so were the checksums.
"""
OTHERS = "*"  # stands for the files of an entry that are not known yet
NOT_FETCHED = "# Not fetched yet: the first run that reaches the hub fills in what is null."
COMMIT, SHA256 = re.compile("[0-9a-f]{40}"), re.compile("[0-9a-f]{64}")


class HubError(ValueError):
    """Something that can't be fetched, or is not what it should be; the message names it and the fix."""


@dataclass(frozen=True)
class Locked:
    """A repository as it was fetched: full commit hash, and SHA-256 of each file by its path.

    `OTHERS` among the files, with None, says that there are more, not known yet.
    """

    revision: str
    files: dict[str, str | None]

    @property
    def whole(self) -> bool:
        """Whether all files are known."""
        return OTHERS not in self.files


Lock = dict[str, dict[str, Locked | None]]  # by kind, then by `lock_key`; None is not fetched yet


def lock_key(hub: str, resolve: str) -> str:
    """Key of a repository in the lock: its id, and the branch or tag if that is not main."""
    return hub if resolve == "main" else f"{hub}@{resolve}"


def read_lock(path: Path) -> Lock:
    """Read a lock; one that is not there is empty.

    Raises:
        HubError: it is damaged; the message names the entry.
    """
    if not path.is_file():
        return {kind: {} for kind in KINDS}
    try:
        read = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise HubError(f"{path} is no YAML ({error}); restore it") from error
    if not isinstance(read, dict) or set(read) - set(KINDS):
        raise HubError(f"{path}: there can be {' and '.join(KINDS)} in it, nothing else; restore it")
    return {kind: {key: _entry(path, key, entry) for key, entry in (read.get(kind) or {}).items()} for kind in KINDS}


def _entry(path: Path, key: str, entry: object) -> Locked | None:
    if isinstance(entry, dict) and set(entry) == {"revision", "files"}:
        revision, files = entry["revision"], entry["files"]
        if revision is None:
            return None
        sums = (
            [value for name, value in files.items() if (name, value) != (OTHERS, None)]
            if isinstance(files, dict)
            else [None]
        )
        matching = [(COMMIT, revision), *((SHA256, value) for value in sums)]
        if all(isinstance(value, str) and pattern.fullmatch(value) for pattern, value in matching):
            return Locked(revision, files)
    raise HubError(
        f"{path}: {key} must have `revision`, a full commit hash in quotes or null, and `files`, the SHA-256 of each; "
        "restore it, or set `revision: null` and `files: {}` to have it filled in anew"
    )


def agreed_revision(path: Path, key: str, wanted: str | None, known: Locked | None) -> str | None:
    """The commit to use: the configuration's or the lock's, which must be the same if both are there.

    Raises:
        HubError: they differ.
    """
    if wanted and known and wanted != known.revision:
        raise HubError(
            f"{key}: the configuration's `revision` is {wanted}, that of {path} is {known.revision}; remove the one "
            f"from the configuration, or set {key}'s in {path} to null and its `files` to {{}}"
        )
    return wanted or (known.revision if known else None)


def render_lock(lock: Lock) -> str:
    """Text of a lock: sorted, so that differences are small."""
    lines = [HEADER]
    for kind in KINDS:
        lines.append(f"{kind}:" if lock[kind] else f"{kind}: {{}}")
        for key, known in sorted(lock[kind].items()):
            entry = {"revision": None, "files": {}} if known is None else asdict(known)
            text = yaml.safe_dump({key: entry}, sort_keys=False, width=1000).rstrip()
            lines.append(textwrap.indent(text if known and known.whole else f"{NOT_FETCHED}\n{text}", "  "))
    return "\n".join([*lines, ""])
