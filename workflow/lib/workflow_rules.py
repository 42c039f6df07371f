"""The workflow's rules as Snakemake sees them, each with its programs and its environment."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, Quietness, ResourceSettings

from selfrepair.claims.published import COLUMNS

ROOT = Path(__file__).parents[2]
# With the default configuration one in which every rule exists: second measurements, published, kept and known results,
# and the studies beyond the paper.
KNOWN = {"known-answer": {"path": "workflow/resources/known-answer/model"}}
CONFIG = {
    "study": "any",
    "tokens": {"row_length": 16},
    "models": {"tiny-llama": {"as_published": True}} | KNOWN,
    "experiments": {"study_rows": 1, "distributions": ["prose", "ioi"]},
}
PUBLISHED = dict.fromkeys(COLUMNS, "1") | {"model": "a", "percentile": "0.02", "layer": "0", "head": "0"}


@dataclass(frozen=True)
class Rule:
    """A rule: its script and the module that the script calls by name, its environment, inputs and resources.

    `flags` are those of its inputs, such as `ancient`, by which a rule names the model that it loads.
    """

    name: str
    programs: list[Path]
    environment: str
    inputs: list[str]
    resources: dict[str, object]
    flags: set[str]


@cache
def workflow_rules() -> list[Rule]:
    """All rules but `all`, of the default configuration and what `CONFIG` adds."""
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        with TemporaryDirectory() as folder, SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
            published = Path(folder) / "published.csv"
            published.write_text("\n".join(",".join(line) for line in (PUBLISHED, PUBLISHED.values())) + "\n")
            workflow = api.workflow(
                resource_settings=ResourceSettings(cores=1),
                config_settings=ConfigSettings(config=CONFIG | {"reference": str(published)}),
                snakefile=Path("Snakefile"),
            )
            return [_rule(rule) for rule in workflow._workflow.rules if rule.name != "all"]
    finally:
        os.chdir(before)


def _rule(rule) -> Rule:
    inputs = [str(file) for file in rule.input if not callable(file)]
    programs = [Path(next(file for file in inputs if file.startswith("workflow/scripts/")))]
    if function := getattr(rule.params, "function", None):
        programs.append(Path("src/selfrepair", *function.split(":")[0].split(".")).with_suffix(".py"))
    flags = {flag for file in rule.input if not callable(file) for flag in file.flags}
    return Rule(rule.name, programs, Path(rule.conda_env).stem, inputs, dict(rule.resources), flags)
