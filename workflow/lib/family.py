"""The configuration of a controlled family: which trainings there are, with what settings, and which are kept."""

import csv
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from checks import check_configuration
from content import digest
from settings import STUDIES
from snakemake.exceptions import WorkflowError

from selfrepair.models.families import DECODER

SCHEMA = Path("workflow/schemas/family.schema.yaml")


@dataclass(frozen=True)
class Family:
    """What the rules need to know of a family.

    Attributes:
        config: the checked configuration.
    """

    config: dict[str, Any]

    @property
    def results(self) -> str:
        return f"results/{self.config['run']}"

    @property
    def study(self) -> Path:
        """Where finished trainings are kept."""
        return STUDIES / self.config["study"]

    @property
    def trainings(self) -> list[str]:
        """All trainings, as arm-seed: seed by seed, so that few seeds of all arms come before many of some."""
        seeds = self.config["seeds"]
        count = {"base": seeds["base"]} | dict.fromkeys(self.config["arms"], seeds["arms"])
        return [f"{arm}-{seed}" for seed in range(1, max(count.values()) + 1) for arm in count if seed <= count[arm]]

    @property
    def bases(self) -> list[str]:
        """The trainings of the base."""
        return [name for name in self.trainings if name.rsplit("-", 1)[0] == "base"]

    @cached_property
    def text(self) -> dict[str, str]:
        """SHA-256 of the corpus and of the tokenizer."""
        files = {"corpus": Path(self.config["corpus"]), "tokenizer": Path(self.config["tokenizer"], "tokenizer.json")}
        return {name: digest(str(path)) for name, path in files.items()}

    def settings(self, name: str, file: str = "arm.json") -> dict[str, Any]:
        """All that a training and its measurement depend on; of adaptation.json, what more is measured of the base."""
        arm, seed = name.rsplit("-", 1)
        features = self.config["base"] | self.config["arms"].get(arm, {})
        training = {"architecture": {"model_type": DECODER} | features, "seed": int(seed)} | self.config["training"]
        entry = {"arm": arm, "seed": int(seed), "training": training, "measured": self.config["measured"]} | self.text
        return entry | ({"adaptation": self.config["adaptation"]} if file == "adaptation.json" else {})

    def is_kept(self, name: str, file: str = "arm.json") -> bool:
        """Whether what is kept of a training was made with these settings."""
        path, settings = self.study / "arms" / name / file, self.settings(name, file)
        return path.is_file() and json.loads(path.read_text()).items() >= settings.items()

    @property
    def is_compared(self) -> bool:
        """Whether what is kept was made of exactly these trainings, with this bound and so many replicates."""
        if not all([*map(self.is_kept, self.trainings), *(self.is_kept(of, "adaptation.json") for of in self.bases)]):
            return False
        arms, differences, evidence = (self._kept(table) for table in ("arms", "differences", "evidence"))
        bases = {f"base-{row['seed']}" for row in evidence if row["seed"]}
        named = [f"{row['arm']}-{row['seed']}" for row in arms]
        asked = {(self.config["bound"], str(self.config["bootstrap_replicates"]))}
        return (set(named), bases) == (set(self.trainings), set(self.bases)) and {
            (float(row["bound"]), row.get("replicates")) for row in differences
        } == asked

    def _kept(self, table: str) -> list[dict[str, str]]:
        path = self.study / f"{table}.csv"
        return list(csv.DictReader(path.read_text().splitlines())) if path.is_file() else []

    def folder(self, name: str, file: str = "arm.json") -> str:
        """Where the results of a training are, or will be made."""
        return f"{self.study if self.is_kept(name, file) else self.results}/arms/{name}"


def read_family(config: dict[str, Any], configfiles: list[Path]) -> Family:
    """Check a family's configuration and return it.

    Raises:
        WorkflowError: something in it can't be used; the message names the key or the file, and the fix.
    """
    check_configuration(config, configfiles, SCHEMA)
    for key in ("corpus", "tokenizer"):
        if not Path(config[key]).exists():
            raise WorkflowError(f"{key}: {config[key]} does not exist; correct it")
    training = config["training"]
    if training["checkpoints"] != sorted(training["checkpoints"]) or training["checkpoints"][-1] != training["steps"]:
        raise WorkflowError(f"training.checkpoints: they must ascend and end with training.steps ({training['steps']})")
    if training["warmup_steps"] >= training["steps"]:
        raise WorkflowError(f"training.warmup_steps: must be less than training.steps ({training['steps']})")
    if config["seeds"]["base"] < config["seeds"]["arms"]:
        raise WorkflowError("seeds.base: an arm's seed needs one of the base to be compared with; raise it")
    return Family(config)
