"""Imports point one way: a stage imports itself and stages before it; nothing imports the benchmark."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src/selfrepair"
STREET = ["core", "tokens", "models", "ablation", "analysis", "claims", "figures", "report", "artifact", "benchmark"]
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE)


def stages(path: Path) -> set[str]:
    """Stages that a module imports from."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "selfrepair":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("selfrepair."):
            names.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("selfrepair.")}
    return names & set(STREET)


def test_at_most_four_modules_lie_flat() -> None:
    assert len(list(SOURCE.glob("*.py"))) <= 4
    assert {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(STREET)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_up_the_street(path: Path) -> None:
    stage = path.relative_to(SOURCE).parts[0]
    ahead = set(STREET[STREET.index(stage) + 1 :])
    assert not stages(path) & ahead
