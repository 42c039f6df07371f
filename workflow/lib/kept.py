"""Results that are kept with the code: are they whole, and were they made with a run's configuration."""

import json
from pathlib import Path
from typing import Any

import yaml
from configuration import fill_in
from settings import SCHEMA, Settings
from snakemake.exceptions import WorkflowError

# Keys that change no result of a run's own.
ELSEWHERE = dict.fromkeys(["device", "memory", "study", "studies", "beyond", "family"])
NEEDED = ("report/claims.json", "README.md")


def read_kept(file: Path, **parts: type) -> dict[str, Any]:
    """Read a JSON object that is kept.

    Args:
        parts: keys that it must have, and what is under them.

    Raises:
        WorkflowError: it is damaged.
    """
    try:
        kept = json.loads(file.read_text())
    except (OSError, RecursionError, ValueError) as error:
        raise damaged(file, str(error)) from None
    if not isinstance(kept, dict):
        raise damaged(file, "it holds no JSON object")
    if missing := [key for key, of in parts.items() if not isinstance(kept.get(key), of)]:
        raise damaged(file, f"it lacks `{missing[0]}`")
    return kept


def damaged(file: Path, why: str) -> WorkflowError:
    """What to say of a kept file that can't be read."""
    return WorkflowError(f"{file} is damaged ({why}); `git checkout -- {file}` restores it")


def is_kept(settings: Settings) -> bool:
    """Whether the run's kept results (`study`) were made with this configuration, on whatever machine.

    Raises:
        WorkflowError: their record is damaged, or what was made with it is not there.
    """
    record = Path(settings.study or "", "report/run.json")
    if settings.study is None or not record.is_file():
        return False
    kept = read_kept(record, config=dict)["config"]
    fill_in(kept, yaml.safe_load(SCHEMA.read_text()))
    if {**kept, **ELSEWHERE} != {**settings.config, **ELSEWHERE}:
        return False
    if missing := [file for file in NEEDED if not Path(settings.study, file).is_file()]:
        file = f"{settings.study}/{missing[0]}"
        raise WorkflowError(f"study: {file} is missing; `git checkout -- {file}` restores it")
    return True
