"""An archive: the same bytes every time, with the code of the record's commit; refused where that is unclear."""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tracemalloc
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from selfrepair.artifact.archive import ArchiveError, archive_run
from selfrepair.artifact.crate import METADATA, read_crate
from selfrepair.artifact.verify import check_files
from tests.helpers.small_run import RUN, make_record, make_run

GIT = ["git", "-c", "user.name=n", "-c", "user.email=n@example.org"]


def commit(message: str) -> None:
    subprocess.run(["git", "add", "--all"], check=True)
    subprocess.run([*GIT, "commit", "--quiet", "--message", message], check=True)


@pytest.fixture
def run(zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose record knows the commit, in a checkout with a program that can be executed."""
    root = make_run(zoo, tmp_path)
    monkeypatch.chdir(root)
    subprocess.run(["git", "init", "--quiet"], check=True)
    Path("tool.sh").write_text("#!/bin/sh\n")
    Path("tool.sh").chmod(0o755)
    commit("first")
    make_record()
    return RUN


def describe(name: str) -> Path:
    """What Snakemake keeps of a file: names of 255 characters and more are cut into folders."""
    encoded = urlsafe_b64encode(name.encode()).decode()
    parts = [encoded[i : i + 254] for i in range(0, len(encoded), 254)]
    path = Path(".snakemake/metadata", *(f"@{part}" for part in parts[:-1]), parts[-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    return path


def archive(output: str) -> bytes:
    archive_run(read_crate(RUN), Path(output))
    return Path(output).read_bytes()


def test_twice_the_same_bytes_whatever_times_and_modes_files_have(run: Path) -> None:
    first = archive("first.tar.gz")
    for path in (run / "report/run.json", Path("Snakefile")):
        os.utime(path, (1e9, 1e9))
    (run / "report/run.json").chmod(0o600)
    assert hashlib.sha256(archive("second.tar.gz")).digest() == hashlib.sha256(first).digest()


def test_it_holds_code_results_record_and_metadata_of_this_run_only(run: Path) -> None:
    long = RUN / f"figures/{'x' * 230}.svg"
    long.parent.mkdir()
    long.write_text("<svg/>")
    make_record()
    kept = [describe(f"{RUN}/report/run.json"), describe(str(long)), describe(f"{RUN}/models/m/folded")]
    describe("results/other/report/run.json")
    (RUN / "logs").mkdir()
    (RUN / "logs/a.log").write_text("x")
    archived = archive_run(read_crate(RUN), Path("run.tar.gz"))
    with tarfile.open("run.tar.gz") as packed:
        members = {member.name: member for member in packed}
    names = [*read_crate(RUN).files, METADATA]
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.split()
    expected = {*(f"{RUN}/{name}" for name in names), *map(str, kept), *tracked}
    assert set(members) == {f"selfrepair-small/{name}" for name in expected}
    assert (archived.code, archived.results, archived.left_out) == (len(tracked), len(names) + 3, [])
    time = int(subprocess.run(["git", "log", "-1", "--format=%ct"], capture_output=True, check=True).stdout)
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members.values()} == {(time, 0, 0, "", "")}
    executable = {name for name, member in members.items() if member.mode != 0o644}
    assert executable == {"selfrepair-small/tool.sh"} and members["selfrepair-small/tool.sh"].mode == 0o755


def test_unpacked_elsewhere_it_is_as_recorded(run: Path, tmp_path_factory, monkeypatch) -> None:
    archive("run.tar.gz")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    subprocess.run(["tar", "-xzf", "run.tar.gz", "-C", elsewhere], check=True)
    monkeypatch.chdir(elsewhere / "selfrepair-small")
    assert not [check for check in check_files(read_crate(RUN)) if check.problem is not None]


def test_an_absolute_path_gives_the_same_archive(run: Path) -> None:
    Path("../linked").symlink_to(Path.cwd())
    for root in (Path.cwd(), Path.cwd().parent / "linked"):
        archived = archive_run(read_crate(root / run), Path("absolute.tar.gz"))
        assert Path("absolute.tar.gz").read_bytes() == archive("relative.tar.gz") and archived.left_out == []


def test_a_run_outside_the_checkout_is_refused(run: Path, tmp_path_factory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "small"
    shutil.copytree(run, elsewhere)
    for path in (elsewhere, Path(os.path.relpath(elsewhere))):
        with pytest.raises(ArchiveError, match=r"small lies outside .*; archive it in the root of the checkout"):
            archive_run(read_crate(path), Path("run.tar.gz"))


def test_a_folder_of_the_checkout_is_refused(run: Path, monkeypatch) -> None:
    monkeypatch.chdir("results")
    with pytest.raises(ArchiveError, match="this is not the top of a Git checkout"):
        archive_run(read_crate(Path("small")), Path("run.tar.gz"))


def test_packing_is_shown_and_no_file_is_read_whole(run: Path, capsys) -> None:
    (run / "large.svg").write_bytes(bytes(2**25))
    make_record()
    crate = read_crate(RUN)
    tracemalloc.start()
    archive_run(crate, Path("run.tar.gz"))
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()
    (last,) = [line for line in capsys.readouterr().out.splitlines() if "00:00 left" in line][-1:]
    with tarfile.open("run.tar.gz") as packed:
        size = sum(member.size for member in packed)
    assert last.startswith(f"packing: {size:,}/{size:,} bytes, ")


def test_inputs_that_are_no_code_are_left_out_and_named(run: Path) -> None:
    subprocess.run(["git", "rm", "--quiet", "-r", "--cached", "models"], check=True)
    Path(".gitignore").write_text("results/\nmodels/\n")
    commit("weights are not ours")
    make_record()
    archived = archive_run(read_crate(RUN), Path("run.tar.gz"))
    assert "models/m/model.safetensors" in archived.left_out


def test_a_modified_checkout_is_refused(run: Path) -> None:
    Path("Snakefile").write_text("rule other:\n")
    with pytest.raises(ArchiveError, match=r"commit or restore them first:\n *M Snakefile"):
        archive("run.tar.gz")
    assert not Path("run.tar.gz").exists()


def test_a_record_of_another_commit_is_refused(run: Path) -> None:
    Path("notes").write_text("x")
    commit("second")
    with pytest.raises(ArchiveError, match=r"recorded at commit [0-9a-f]{40}, checked out is .*--forcerun record_run"):
        archive("run.tar.gz")


def test_a_record_of_modified_code_is_refused(run: Path) -> None:
    Path("tool.sh").write_text("#!/bin/bash\n")
    make_record()
    subprocess.run(["git", "checkout", "--quiet", "tool.sh"], check=True)
    with pytest.raises(ArchiveError, match="recorded while tracked files differed"):
        archive("run.tar.gz")


def test_a_damaged_run_is_refused(run: Path) -> None:
    (run / "report/costs.csv").write_text("rule\n")
    with pytest.raises(ArchiveError, match=r"report/costs\.csv: this result is not what was recorded"):
        archive("run.tar.gz")
    assert not Path("run.tar.gz").exists()


def test_without_a_checkout_it_is_refused(zoo, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(make_run(zoo, tmp_path))
    assert json.loads((RUN / "report/run.json").read_text())["commit"] is None
    with pytest.raises(ArchiveError, match="this is not the top of a Git checkout"):
        archive("run.tar.gz")
