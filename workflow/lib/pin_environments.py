"""Write envs/*.yaml from the lock: `python workflow/lib/pin_environments.py`, in an environment made from the lock.

Each environment holds the packages that its kind of rule imports and all that these bring along, at the versions of
envs/requirements.lock. torch, whose builds differ by machine, is not in the lock; envs/torch.txt pins it. Only Python
and pip come from a conda channel.
"""

import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

# Both are on conda-forge. The shipped corpus is of this Python's library, and `build_corpus` makes it again.
PYTHON = "3.11.7"
PIP = "25.0.1"
# What the programs of each kind import.
KINDS = {
    "measure": "datasets gguf huggingface_hub jaxtyping numpy polars pyarrow safetensors tokenizers torch "
    "transformer_lens transformers tyro",
    "analyse": "jaxtyping jinja2 jsonschema numpy polars pyyaml tyro",
    "draw": "altair jaxtyping numpy polars tyro vl-convert-python",
    "typeset": "tyro",
    "train": "jaxtyping polars safetensors tokenizers torch transformers tyro",
}


def canonical(name: str) -> str:
    """Package names compare without regard to case and separators."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked_versions(*files: Path) -> dict[str, set[str]]:
    """Versions that locks allow of each package."""
    text = "\n".join(file.read_text() for file in files)
    versions: dict[str, set[str]] = {}
    for name, pinned in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE):
        versions.setdefault(canonical(name), set()).add(pinned)
    return versions


def brought_along(packages: list[str], known: dict[str, set[str]]) -> dict[str, str]:
    """Installed version of packages and of everything they need here, as far as it is locked."""
    pinned_versions: dict[str, str] = {}
    waiting = [canonical(package) for package in packages]
    while waiting:
        package = waiting.pop()
        if package in pinned_versions or package not in known:
            continue
        try:
            pinned_versions[package] = version(package).split("+")[0]
        except PackageNotFoundError:
            continue  # needed on other systems only
        needed = [re.match(r"[A-Za-z0-9._-]+", line)[0] for line in requires(package) or [] if "extra ==" not in line]
        waiting += map(canonical, needed)
    return dict(sorted(pinned_versions.items()))


def environment(kind: str, pins: dict[str, str]) -> str:
    """Text of a conda environment file."""
    lines = [
        f"# Made by workflow/lib/pin_environments.py from the lock: what {kind} rules need. Not to be edited.",
        "channels: [conda-forge, nodefaults]",
        "dependencies:",
        f"  - python =={PYTHON}",
        f"  - pip =={PIP}",
        "  - pip:",
        *(f"      - {name}=={pinned}" for name, pinned in pins.items()),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    known = locked_versions(Path("envs/requirements.lock"), Path("envs/torch.txt"))
    for kind, packages in KINDS.items():
        pins = brought_along(packages.split(), known)
        strangers = {name: pinned for name, pinned in pins.items() if pinned not in known[name]}
        if strangers:
            raise SystemExit(f"installed versions differ from the lock: {strangers}; install the lock first")
        Path(f"envs/{kind}.yaml").write_text(environment(kind, pins))


if __name__ == "__main__":
    main()
