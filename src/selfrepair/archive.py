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
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from selfrepair.crate import METADATA, Crate
from selfrepair.provenance import git, modifications
from selfrepair.store import write_whole
from selfrepair.verify import check_files

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
        ArchiveError: the checkout is modified, the record is of another commit or of modified code, or a file is not
            as recorded.
    """
    commit = _agreed_commit(crate)
    if problem := next((check for check in check_files(crate) if check.problem is not None), None):
        raise ArchiveError(f"{problem.what}: {problem.problem}")
    code = dict(_committed(commit))
    results = dict(_results(crate))
    root = f"selfrepair-{crate.run_record['config']['run']}"
    members = {f"{root}/{name}": member for name, member in (code | results).items()}
    time = int(git("show", "--no-patch", "--format=%ct", commit))
    write_whole(output, lambda path: _write(path, members, time))
    return Archived(len(code), len(results), sorted(set(_inputs(crate)) - set(code) - set(results)))


def _agreed_commit(crate: Crate) -> str:
    """The commit that is checked out and that the run was made at."""
    record, head = crate.run_record, git("rev-parse", "HEAD")
    again = "`snakemake --cores all --forcerun record_run`, with the configuration of the run, makes the record anew"
    if head is None:
        raise ArchiveError("this is no Git checkout, so the code of the run is not known; archive it where it was made")
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


Member = tuple[int, bytes | Path]  # mode, and content or the file that holds it


def _committed(commit: str) -> Iterator[tuple[str, Member]]:
    """The files of the commit."""
    packed = subprocess.run(["git", "archive", "--format=tar", commit], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        for entry in archive:
            if entry.isfile():
                yield entry.name, (0o755 if entry.mode & 0o100 else 0o644, archive.extractfile(entry).read())


def _results(crate: Crate) -> Iterator[tuple[str, Member]]:
    """The run's files, its record, records of what was fetched, and Snakemake's metadata, also of what is left out."""
    names = [(crate.root / name).as_posix() for name in (*crate.files, METADATA)]
    names += [name for name in _inputs(crate) if name.startswith(HUB_RECORDS)]
    for name in names:
        yield name, (0o644, Path(name))
    for path in SNAKEMAKE_METADATA.rglob("*"):
        if path.is_file() and ((about := _described(path)) in names or about.startswith(f"{crate.root.as_posix()}/")):
            yield path.as_posix(), (0o644, path)


def _inputs(crate: Crate) -> list[str]:
    """Paths of the run's inputs from the checkout's root."""
    return [os.path.normpath(crate.root / name) for name in crate.inputs]


def _described(path: Path) -> str:
    """The file that a file of Snakemake's metadata is about: its path in base 64, cut where names grow too long."""
    parts = path.relative_to(SNAKEMAKE_METADATA).parts
    return urlsafe_b64decode("".join(part.removeprefix("@") for part in parts)).decode()


def _write(output: Path, members: dict[str, Member], time: int) -> None:
    with (
        output.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=file, mtime=time) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, (mode, content) in sorted(members.items()):
            data = content.read_bytes() if isinstance(content, Path) else content
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(data), mode, time
            archive.addfile(entry, BytesIO(data))
