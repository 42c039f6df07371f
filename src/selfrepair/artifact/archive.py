"""A finished run as one archive: its results, its record, and the code at the commit; the same bytes every time.

Members are sorted and have the commit's time, no owner and plain modes, and the compression is fixed. Unpacked, the
run can be verified, and Snakemake finds nothing to do: its metadata of the run's files come along.

Left out is what is large and made again from the rest: the folded models, training checkpoints, logs; and inputs that
are neither code nor results, such as the weights of a hub's model, of which the record has the SHA-256.
"""

import gzip
import os
import subprocess
import tarfile
import tempfile
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

from selfrepair.artifact.crate import METADATA, Crate, read_crate
from selfrepair.artifact.verify import check_files
from selfrepair.core.files import git, git_command, modifications, sha256, write_atomically
from selfrepair.core.progress import Progress

HUB_RECORDS = "results/hub/records/"  # of what was fetched: small, and inputs of the record
SNAKEMAKE_METADATA = Path(".snakemake/metadata")
LEVEL = 6  # of compression


class ArchiveError(ValueError):
    """Something that keeps a run from being archived; the message names it and the fix."""


@dataclass(frozen=True)
class Archived:
    """What went into an archive: how many files of code, of results, and which inputs did not."""

    code: int
    results: int
    left_out: list[str]


def archive_run(crate: Crate, output: Path) -> Archived:
    """Write the archive, `<name>.tar.gz` with one folder `selfrepair-<run>` in it. Called in the checkout's root.

    Raises:
        ArchiveError: the run lies outside the checkout, the checkout is modified, the record is of another commit or of
            modified code, or a file is not as recorded.
    """
    crate = replace(crate, root=_within_checkout(crate.root))
    commit = _agreed_commit(crate)
    if problem := next((check for check in check_files(crate) if check.problem is not None), None):
        raise ArchiveError(f"{problem.what}: {problem.problem}")
    root = f"selfrepair-{crate.run_record['config']['run']}"
    time = int(git("show", "--no-patch", "--format=%ct", commit) or 0)
    with tempfile.TemporaryFile() as file:
        subprocess.run(git_command("archive", "--format=tar", commit), stdout=file, check=True)
        file.seek(0)
        with tarfile.open(fileobj=file) as packed:
            code, results = dict(_committed(packed)), dict(_results(crate))
            members = {f"{root}/{name}": member for name, member in (code | results).items()}
            write_atomically(output, lambda path: _write(path, members, time))
    return Archived(len(code), len(results), sorted(set(_inputs(crate)) - set(code) - set(results)))


def _within_checkout(root: Path) -> Path:
    """The run's folder as the archive is to hold it: its path from the root of the checkout, links as written."""
    whole = Path(os.path.abspath(root))
    for folder in whole.parents:
        if folder.samefile("."):
            return whole.relative_to(folder)
    raise ArchiveError(f"{root} lies outside {Path.cwd()}; archive it in the root of the checkout that made it")


def _agreed_commit(crate: Crate) -> str:
    """The commit that is checked out and that the run was made at."""
    record, head = crate.run_record, git("rev-parse", "HEAD")
    again = "`snakemake --cores all --forcerun record_run`, with the configuration of the run, makes the record anew"
    if head is None:
        raise ArchiveError(
            "this is not the top of a Git checkout, so the code of the run is not known; archive it where it was made"
        )
    if changed := modifications():
        raise ArchiveError(f"tracked files differ from the commit; commit or restore them first:\n{changed}")
    if record["commit"] != head:
        raise ArchiveError(
            f"{crate.root} was recorded at commit {record['commit']}, checked out is {head}; check out the former, or "
            f"stay here: {again}"
        )
    if record["modified"]:
        raise ArchiveError(f"{crate.root} was recorded while tracked files differed from the commit; {again}")
    return head


@dataclass(frozen=True)
class _Member:
    """A file of the archive: its size in bytes, how to open it, and whether it can be executed."""

    size: int
    open: Callable[[], IO[bytes]]
    executable: bool = False

    @staticmethod
    def of(path: Path) -> "_Member":
        return _Member(path.stat().st_size, lambda: path.open("rb"))


def _committed(packed: tarfile.TarFile) -> Iterator[tuple[str, _Member]]:
    """The files of the commit, of what `git archive` wrote."""
    for entry in packed:
        if entry.isfile():
            yield entry.name, _Member(entry.size, partial(_opened, packed, entry), bool(entry.mode & 0o100))


def _opened(packed: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    file = packed.extractfile(entry)
    assert file is not None  # a file, not a folder or a link
    return file


def _results(crate: Crate) -> Iterator[tuple[str, _Member]]:
    """The run's files, its record, records of what was fetched, and Snakemake's metadata, also of what is left out."""
    names = [(crate.root / name).as_posix() for name in (*crate.files, METADATA)]
    names += [name for name in _inputs(crate) if name.startswith(HUB_RECORDS)]
    for name in names:
        yield name, _Member.of(Path(name))
    for path in SNAKEMAKE_METADATA.rglob("*"):
        if path.is_file() and ((about := _described(path)) in names or about.startswith(f"{crate.root.as_posix()}/")):
            yield path.as_posix(), _Member.of(path)


def _inputs(crate: Crate) -> list[str]:
    """Paths of the run's inputs from the checkout's root."""
    return [os.path.normpath(crate.root / name) for name in crate.inputs]


def _described(path: Path) -> str:
    """The file that a file of Snakemake's metadata is about: its path in base 64, cut where names grow too long."""
    parts = path.relative_to(SNAKEMAKE_METADATA).parts
    try:
        return urlsafe_b64decode("".join(part.removeprefix("@") for part in parts)).decode()
    except ValueError:  # no file of Snakemake's
        return ""


def _write(output: Path, members: dict[str, _Member], time: int) -> None:
    progress = Progress("packing", sum(member.size for member in members.values()), "bytes")
    with (
        output.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=file, mtime=time) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, member in sorted(members.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = member.size, 0o755 if member.executable else 0o644, time
            with member.open() as content:
                archive.addfile(entry, _Watched(content, progress))


@dataclass(frozen=True)
class _Watched:
    """A file whose reading is shown as progress."""

    file: IO[bytes]
    progress: Progress

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.progress.advance(len(data))
        return data


def pack(run: Path, output: Path) -> None:
    """Pack a finished run for a journal: results, record, and the code at the commit; the same bytes every time.

    Args:
        run: folder of the run, such as results/demo.
        output: archive to write, .tar.gz.

    Raises:
        CrateError, ArchiveError: there is no record, the code is not at its commit, or a file lies elsewhere.
    """
    packed = archive_run(read_crate(run), output)
    for name in packed.left_out:
        print(f"not packed, only its SHA-256 is recorded: {name}")
    print(f"{packed.code} files of code and {packed.results} of results")
    print(f"{output}: {output.stat().st_size:,} bytes, SHA-256 {sha256(output)}")
