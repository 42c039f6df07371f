"""Fetch a repository of a hub at a full commit hash and check its files by the lock, which the first fetch fills in."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selfrepair.core.files import sha256, write_atomically
from selfrepair.models.hub_lock import OTHERS, HubError, Lock, Locked, agreed_revision, lock_key, read_lock, render_lock


def fetch(
    kind: str,
    hub: str,
    folder: Path,
    lock: Path,
    key: str,
    patterns: list[str] | None = None,
    revision: str | None = None,
    resolve: str = "main",
) -> Locked:
    """Download a repository to `folder`, whole or not at all; a download that broke off is resumed.

    Without a revision in the configuration or in the lock, the commit that `resolve` names now is fetched and written
    into the lock. A commit that only the configuration names is fetched as it is and not written there.

    Args:
        kind: `models` or `datasets`.
        hub: id, owner/name.
        key: configuration key that a copy brought by hand is given to, for messages.
        patterns: names of the files to fetch; all if None.
        revision: full commit hash, if the configuration has one.
        resolve: branch or tag to resolve where no commit is known.

    Raises:
        HubError: the hub is out of reach or has no such thing; a file differs from the lock; the configuration's
            revision and the lock's differ.
    """
    entry = lock_key(hub, resolve)
    known = read_lock(lock)[kind].get(entry)
    with _reaching(kind, hub, key):
        commit = agreed_revision(lock, entry, revision, known) or _resolved(kind, hub, resolve)
        partial = _download(kind, hub, commit, folder, patterns)
    fetched = Locked(commit, {f.relative_to(partial).as_posix(): sha256(f) for f in sorted(_files(partial))})
    try:
        if known is not None:
            _compare(fetched, known, lock, entry)
        if not known.whole if known else not revision:
            _record(lock, kind, entry, fetched)
    except HubError:
        shutil.rmtree(partial)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return fetched


def _resolved(kind: str, hub: str, resolve: str) -> str:
    from huggingface_hub import HfApi

    api = HfApi()
    info: Any = (api.model_info if kind == "models" else api.dataset_info)(hub, revision=resolve)
    return info.sha


def _download(kind: str, hub: str, commit: str, folder: Path, patterns: list[str] | None) -> Path:
    from huggingface_hub import snapshot_download

    partial = folder.with_name(f".{folder.name}.{commit[:12]}.partial")
    snapshot_download(
        hub, repo_type=kind.removesuffix("s"), revision=commit, allow_patterns=patterns, local_dir=partial
    )
    shutil.rmtree(partial / ".cache")  # what the download needed to resume
    return partial


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


@contextmanager
def _reaching(kind: str, hub: str, key: str) -> Iterator[None]:
    """Turn what goes wrong on the way to the hub into a message that says what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError

    what = f"{kind.removesuffix('s')} {hub}"
    try:
        yield
    except HfHubHTTPError as error:
        if error.response.status_code >= 500:
            raise HubError(_out_of_reach(constants.ENDPOINT, what, kind, hub, key, error)) from error
        raise HubError(
            f"the hub {constants.ENDPOINT} does not give out the {what}: {_first_line(error)}; check its id and "
            "`revision`, and accept its licence and log in (`hf auth login`) if it has one"
        ) from error
    except (HTTPError, LocalEntryNotFoundError, ConnectionError) as error:
        raise HubError(_out_of_reach(constants.ENDPOINT, what, kind, hub, key, error)) from error


def _out_of_reach(endpoint: str, what: str, kind: str, hub: str, key: str, error: Exception) -> str:
    option = " --repo-type dataset" if kind == "datasets" else ""
    return (
        f"the hub {endpoint} is out of reach, so the {what} can't be fetched ({_first_line(error)}). To bring it by "
        f"hand, run `hf download {hub}{option} --local-dir FOLDER` on a machine that reaches the hub, copy FOLDER "
        f"here, and in the configuration replace `hub` by `path`: {key}"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _compare(fetched: Locked, known: Locked, lock: Path, entry: str) -> None:
    wrong = [
        f"{name} has SHA-256 {fetched.files.get(name, 'none: it is missing')}, not {known.files.get(name, 'any')}"
        for name in sorted((fetched.files.keys() if known.whole else set()) | known.files.keys() - {OTHERS})
        if fetched.files.get(name) != known.files.get(name)
    ]
    if fetched.revision != known.revision or wrong:
        raise HubError(
            f"{entry} at {fetched.revision} is not what {lock} holds at {known.revision}: {'; '.join(wrong)}. Run "
            f"again, as a download may have failed; if it stays so and the new files are meant, set {entry}'s "
            f"`revision` in {lock} to null and its `files` to {{}}"
        )


def _record(path: Path, kind: str, entry: str, fetched: Locked) -> None:
    """Fill in an entry; others that were filled in meanwhile are kept.

    Raises:
        HubError: this one was, with something else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.held").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # dropped when the file is closed, however that comes about
        lock: Lock = read_lock(path)
        known = lock[kind].get(entry)
        if known is not None:
            _compare(fetched, known, path, entry)
            if known.whole:
                return
        lock[kind][entry] = fetched
        write_atomically(path, lambda temporary: temporary.write_text(render_lock(lock)))
