"""Lock, conda environments and imports agree: an environment holds what the programs of its rules import, no more."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from closure import closure
from packaging.requirements import Requirement
from pin_environments import KINDS, PIP, PYTHON, brought_along, canonical, environment, locked_versions

ROOT = Path(__file__).parents[2]
LOCKED = locked_versions(ROOT / "envs/requirements.lock", ROOT / "envs/torch.txt")
RULES = [
    (path.name, name, body)
    for path in sorted((ROOT / "workflow/rules").glob("*.smk"))
    for name, body in re.findall(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", path.read_text(), re.MULTILINE | re.DOTALL)
]
OF_TORCH = {"triton"}  # imported, but it comes with torch where it is of use
# What no program imports by name, and why it is needed.
UNNAMED = {"measure": {"pyarrow": "datasets reads Parquet with it"}}


def specification(kind: str) -> dict:
    return yaml.safe_load((ROOT / f"envs/{kind}.yaml").read_text())


def pins(kind: str) -> dict[str, str]:
    return dict(pin.split("==") for pin in specification(kind)["dependencies"][-1]["pip"])


def program(body: str) -> tuple[list[Path], str]:
    """A rule's program, and the kind of its environment."""
    script, kind = re.search(r'code\("(\w+)", "(\w+)"\)', body).groups()
    return [Path(f"workflow/scripts/{script}.py")], kind


def programs() -> list[tuple[list[Path], str]]:
    """Programs of all rules, those made in loops with the modules that they call by name."""
    rules = {file: Path(f"workflow/rules/{file}.smk").read_text() for file in ("figures", "tables", "analysis")}
    called = [("figure", name, "draw") for name in set(re.findall(r'"([a-z_.]+):[a-z]\w+"', rules["figures"]))]
    called += [("table", name, "analyse") for name in set(re.findall(r'"([a-z_.]+):[a-z]\w+"', rules["tables"]))]
    entries = re.findall(r'function="([a-z_.]+):\w+",\n(?:\s+kind="(\w+)")?', rules["analysis"])
    called += [("analyse", name, kind or "analyse") for name, kind in entries]
    made = [
        ([Path(f"workflow/scripts/{script}.py"), Path("src/selfrepair", *name.split(".")).with_suffix(".py")], kind)
        for script, name, kind in called
    ]
    return made + [program(body) for _, _, body in RULES]


def imports(paths: list[Path]) -> dict[str, Path]:
    """Packages of others that programs or modules of ours import, with a file that does."""
    found = {}
    for source in sorted(set(paths).union(*map(closure, paths))):
        for node in ast.walk(ast.parse(source.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            found |= {name.split(".")[0]: source for name in names}
    ours = sys.stdlib_module_names | {"selfrepair"} | OF_TORCH
    return {name: source for name, source in found.items() if name not in ours}


@pytest.fixture(autouse=True)
def in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("kind", KINDS)
def test_environment_files_are_what_conda_and_pip_can_read(kind: str) -> None:
    assert set(specification(kind)) == {"channels", "dependencies"}
    assert specification(kind)["channels"] == ["conda-forge", "nodefaults"]
    *conda, pip = specification(kind)["dependencies"]
    assert conda == [f"python =={PYTHON}", f"pip =={PIP}"] and list(pip) == ["pip"]
    for line in pip["pip"]:
        (pin,) = Requirement(line).specifier
        assert pin.operator == "==" and not pin.version.endswith("*"), line


@pytest.mark.parametrize("kind", KINDS)
def test_environments_pin_what_the_lock_pins(kind: str) -> None:
    assert pins(kind)
    for name, version in pins(kind).items():
        assert version in LOCKED[name]


@pytest.mark.skipif(f"{sys.version_info[0]}.{sys.version_info[1]}" != PYTHON[:4], reason="pins differ by Python")
@pytest.mark.parametrize("kind", KINDS)
def test_environments_are_made_from_the_lock(kind: str) -> None:
    made = environment(kind, brought_along(KINDS[kind].split(), LOCKED))
    assert (ROOT / f"envs/{kind}.yaml").read_text() == made, "run workflow/lib/pin_environments.py"


@pytest.mark.parametrize(("file", "name", "body"), RULES, ids=[name for _, name, _ in RULES])
def test_the_environment_of_a_rule_is_its_input(file: str, name: str, body: str) -> None:
    assert f"envs/{program(body)[1]}.yaml" in body


def test_environments_have_what_the_programs_of_their_rules_import() -> None:
    distributions = packages_distributions()
    for paths, kind in programs():
        for package, source in imports(paths).items():
            available = {canonical(d) for d in distributions[package]}
            assert available & set(pins(kind)), f"{source} imports {package}, which envs/{kind}.yaml lacks"


@pytest.mark.parametrize("kind", KINDS)
def test_an_environment_is_for_nothing_that_its_rules_do_not_import(kind: str) -> None:
    packages = {package for paths, of in programs() if of == kind for package in imports(paths)}
    distributions = packages_distributions()
    needed = {canonical(d) for package in packages for d in distributions[package]} | set(UNNAMED.get(kind, {}))
    assert set(map(canonical, KINDS[kind].split())) <= needed
