"""Lock, conda environments and imports agree: an environment holds what the programs of its rules import, no more."""

import ast
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from closure import closure
from packaging.requirements import Requirement
from pin_environments import KINDS, PIP, PYTHON, brought_along, canonical, environment, locked_versions
from workflow_rules import workflow_rules

ROOT = Path(__file__).parents[2]
LOCKED = locked_versions(ROOT / "envs/requirements.lock", ROOT / "envs/torch.txt")
OF_TORCH = {"triton"}  # imported, but it comes with torch where it is of use
# What no program imports by name, and why it is needed.
UNNAMED = {"measure": {"pyarrow": "datasets reads Parquet with it"}}


def specification(kind: str) -> dict:
    return yaml.safe_load((ROOT / f"envs/{kind}.yaml").read_text())


def pins(kind: str) -> dict[str, str]:
    return dict(pin.split("==") for pin in specification(kind)["dependencies"][-1]["pip"])


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


def test_the_environment_of_a_rule_is_its_input() -> None:
    assert [rule.name for rule in workflow_rules() if f"envs/{rule.environment}.yaml" not in rule.inputs] == []


def test_environments_have_what_the_programs_of_their_rules_import() -> None:
    distributions = packages_distributions()
    for rule in workflow_rules():
        for package, source in imports(rule.programs).items():
            available = {canonical(d) for d in distributions[package]}
            assert available & set(pins(rule.environment)), (
                f"{source}: {package} is not in envs/{rule.environment}.yaml"
            )


@pytest.mark.parametrize("kind", KINDS)
def test_an_environment_is_for_nothing_that_its_rules_do_not_import(kind: str) -> None:
    packages = {p for rule in workflow_rules() if rule.environment == kind for p in imports(rule.programs)}
    distributions = packages_distributions()
    needed = {canonical(d) for package in packages for d in distributions[package]} | set(UNNAMED.get(kind, {}))
    assert set(map(canonical, KINDS[kind].split())) <= needed
