"""The files that a rule's program is made of, so that Snakemake reruns what an edit touches and nothing else.

Snakemake tracks the time of a script and no module it imports. Every rule therefore names as inputs its script, the
first-party modules that the script imports, directly or not, and its environment file.
"""

import ast
from functools import cache
from pathlib import Path

SOURCE = Path("src")


def code(script: str, environment: str, function: str | None = None) -> list[str]:
    """Return the relative paths of a rule's script (first), of the package's modules it imports, and of its env.

    Args:
        function: `module:name` of the package that the script calls by its name.
    """
    path = Path("workflow/scripts") / f"{script}.py"
    files = closure(path)
    if function is not None:
        module = SOURCE.joinpath("selfrepair", *function.split(":")[0].split(".")).with_suffix(".py")
        files |= {module} | closure(module)
    return [str(path), *sorted(map(str, files)), f"envs/{environment}.yaml"]


@cache
def closure(path: Path) -> frozenset[Path]:
    """Files of the package that a Python file imports, directly or not (the file itself left out)."""
    modules: set[Path] = set()
    waiting = [path]
    while waiting:
        for module in _imports(waiting.pop()):
            if module not in modules:
                modules.add(module)
                waiting.append(module)
    return frozenset(modules - {path})


def _imports(path: Path) -> set[Path]:
    files = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            # What is imported from a package may be a module of it.
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            files |= _files(name)
    return files


def _files(name: str) -> set[Path]:
    """Files that importing a module executes, its packages' `__init__.py` included; none if it is not first-party."""
    files = set()
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        stem = SOURCE.joinpath(*parts[:length])
        files |= {file for file in (stem / "__init__.py", stem.with_suffix(".py")) if file.is_file()}
    return files
