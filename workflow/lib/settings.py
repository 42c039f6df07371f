"""A run's configuration: checked before anything starts, then read through one frozen object.

Only the standard library and what Snakemake brings are imported here.
"""

import json
import math
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from snakemake.exceptions import WorkflowError

from selfrepair.hub_lock import HubError, agreed_revision, lock_key, read_lock
from selfrepair.models.directory import (
    check_as_published,
    check_heads,
    count_parameters,
    model_info,
    read_model_info,
    weight_files,
)
from selfrepair.typeset import ENGINES, NO_ENGINE

SCHEMA = Path("workflow/schemas/config.schema.yaml")
TRAINING = Path("config/training.yaml")
HUB_LOCK = "config/hub.lock.yaml"
AS_PUBLISHED = "-as-published"  # after the name of a model that is measured a second time, in the authors' units
# Keys that people try, and what to write instead.
RENAMED = {
    "model": "list models under `models`, by name",
    "n_tokens": "write `tokens.rows` (rows of `tokens.row_length` tokens)",
    "percentile": "write `analysis.top_fraction` (0.02 for the top 2 %)",
    "batch_size": "batches are chosen to fit `memory`; shards by `ablation.tokens_per_shard`",
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
# Memory of a job that holds a model: so many times its weights in float32, and the rest of the program.
MODEL_COPIES = 3
BASE_MB = 4000
UNKNOWN_WEIGHTS_MB = 8000
TRAINED_FILES = ("config.json", "model.safetensors", *TOKENIZER_FILES, "training.csv", "training.json")


@dataclass(frozen=True)
class Settings:
    """What the rules need to know of a run.

    Attributes:
        config: the checked configuration.
        results: folder of the run's results.
    """

    config: dict[str, Any]
    results: str

    @property
    def models(self) -> list[str]:
        return list(self.config["models"])

    @property
    def ablations(self) -> list[str]:
        return self.config["ablation"]["kinds"]

    @property
    def shards(self) -> int:
        tokens = self.config["tokens"]
        scored = tokens["rows"] * (tokens["row_length"] - 1)
        return math.ceil(scored / self.config["ablation"]["tokens_per_shard"])

    @property
    def corpus(self) -> dict[str, Any]:
        return self.config["corpora"][self.config["tokens"]["corpus"]]

    @property
    def corpus_file(self) -> str:
        """The corpus as a local file: as configured, or where the fetch rule puts it."""
        return self.corpus.get("path") or f"results/hub/corpora/{self.config['tokens']['corpus']}.parquet"

    @property
    def training(self) -> dict[str, Any]:
        """How the shipped models are trained: config/training.yaml."""
        return yaml.safe_load(TRAINING.read_text())

    def training_of(self, name: str) -> str:
        """Settings of a model's training as JSON."""
        entry = self.config["models"][name]["training"]
        return json.dumps(self.training["common"] | self.training["models"][entry])

    def heads(self, name: str) -> list[str]:
        """Heads to measure; none named means all."""
        return self._entry(name).get("heads", [])

    def study(self, name: str) -> list[str]:
        """Heads that single-head experiments look at in any case."""
        return self._entry(name).get("study", [])

    @property
    def gpus(self) -> int:
        """GPUs of a measuring job: with `auto` one, too, or jobs would share it."""
        return 0 if self.config["device"] == "cpu" else 1

    def memory_mb(self, name: str, attempt: int = 1) -> int:
        """Memory of a job that holds a model, in MB: as configured, or by the model's size; more with each attempt."""
        memory = self.config.get("memory", "auto")
        if memory == "auto":
            memory = MODEL_COPIES * self._weights_mb(name) + BASE_MB
        return attempt * memory

    def _weights_mb(self, name: str) -> int:
        """Size of a model in float32; a guess while it is not there yet, and Snakemake asks again when a job is due."""
        files = list(Path(self.directory(name)).glob("*.safetensors"))
        return math.ceil(4e-6 * sum(map(count_parameters, files))) if files else UNKNOWN_WEIGHTS_MB

    @property
    def reference(self) -> str | None:
        """Published per-head results to compare with, if there are any."""
        return self.config.get("reference")

    @property
    def as_published(self) -> list[str]:
        """Names of the second measurements, in the authors' units, of models that ask for one."""
        return [f"{name}{AS_PUBLISHED}" for name in self.models if self.config["models"][name].get("as_published")]

    def measured(self, ablation: str) -> list[str]:
        """Models with summaries of a kind of ablation, those in the authors' units after the others."""
        return self.models + (self.as_published if ablation == "resample" else [])

    def variant(self, name: str) -> str:
        """Flag of a model that is folded in another way."""
        return "--as-published" if name in self.as_published else ""

    def _base(self, name: str) -> str:
        """The configured model behind a name."""
        return name.removesuffix(AS_PUBLISHED) if name in self.as_published else name

    def _entry(self, name: str) -> dict[str, Any]:
        return self.config["models"][self._base(name)]

    def fetched_records(self, kind: str) -> dict[str, str]:
        """Record of what was fetched from a hub, of each model or corpus that is."""
        used = self.models if kind == "models" else [self.config["tokens"]["corpus"]]
        return {name: _record(kind, name) for name in used if "hub" in self.config[kind][name]}

    def as_json(self) -> str:
        return json.dumps(self.config, sort_keys=True)

    def retrained(self, name: str) -> bool:
        return self.config["retrain"] and "training" in self._entry(name)

    def directory(self, name: str) -> str:
        """A model's directory: as configured, or where it is trained or fetched."""
        if self.retrained(name):
            return f"{self.results}/trained/{self._base(name)}"
        return self._entry(name).get("path") or f"results/hub/models/{self._base(name)}"

    def tokenizer_directory(self, name: str) -> str:
        """Where a model's tokenizer is; that of retrained models is there before they are."""
        return f"{self.results}/trained/tokenizer" if self.retrained(name) else self.directory(name)

    def model_files(self, name: str) -> list[str]:
        """Files of a model that a rule depends on; of a fetched one, the directory."""
        folder = Path(self.directory(name))
        if self.retrained(name):
            return [str(folder / file) for file in TRAINED_FILES]
        if "hub" in self._entry(name):
            return [str(folder)]
        return [str(folder / "config.json"), *map(str, weight_files(folder))]

    def tokenizer_files(self, name: str) -> list[str]:
        """Files of a model's tokenizer that a rule depends on; of a fetched one, the directory."""
        folder = Path(self.tokenizer_directory(name))
        if self.retrained(name):
            return [str(folder / file) for file in TOKENIZER_FILES]
        if "hub" in self._entry(name):
            return [str(folder)]
        named = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json")
        return sorted(str(file) for pattern in named for file in folder.glob(pattern))

    def training_records(self, file: str) -> dict[str, str]:
        """Path of `training.csv` or `training.json` of each model that has one."""
        folders = {name: Path(self.directory(name)) for name in self.models}
        return {n: str(f / file) for n, f in folders.items() if self.retrained(n) or (f / file).is_file()}

    @property
    def typeset(self) -> bool:
        """Whether a TeX engine is there to compile the paper."""
        return any(shutil.which(engine) for engine in ENGINES)


def read_settings(config: dict[str, Any], configfiles: list[Path]) -> Settings:
    """Check a configuration and return it.

    Raises:
        WorkflowError: something in it can't be used; the message names the key or the file, and the fix.
    """
    for file in configfiles:
        _check_keys(file)
    # On the command line Snakemake reads `retrain=true` as text.
    if config.get("retrain") in ("true", "false"):
        config["retrain"] = config["retrain"] == "true"
    _check_schema(config)
    settings = Settings(config, f"results/{config['run']}")
    _check_writable(Path(settings.results))
    corpus = config["tokens"]["corpus"]
    if corpus not in config["corpora"]:
        known = ", ".join(config["corpora"])
        raise WorkflowError(f"tokens.corpus: `{corpus}` is not under `corpora`, which lists {known}")
    _check_hub("corpora", corpus, settings.corpus)
    if clash := set(settings.as_published) & set(settings.models):
        raise WorkflowError(f"models: {', '.join(clash)} is how `as_published` names its measurement; rename the model")
    if "reference" in config and not Path(config["reference"]).is_file():
        raise WorkflowError(f"reference: {config['reference']} does not exist; correct or remove it")
    if "path" in settings.corpus and not Path(settings.corpus_file).is_file():
        raise WorkflowError(f"corpora.{corpus}.path: {settings.corpus_file} does not exist; set it to a file that does")
    for name, model in config["models"].items():
        _check_model(name, model, settings)
    return settings


def _check_model(name: str, model: dict[str, Any], settings: Settings) -> None:
    if "training" in model and model["training"] not in settings.training["models"]:
        known = ", ".join(settings.training["models"])
        raise WorkflowError(f"models.{name}.training: `{model['training']}` is not in {TRAINING}; it lists {known}")
    if "hub" in model:
        _check_hub("models", name, model)
        return  # not there yet; checked when it is fetched and measured
    try:
        if settings.retrained(name):
            info = model_info(settings.training["models"][model["training"]]["architecture"])
        else:
            info = read_model_info(Path(model["path"]))
        check_heads(info, model.get("heads", []), name)
        if model.get("as_published"):
            check_as_published(info.family)
        check_heads(info, model.get("study", []), name, "study")
    except ValueError as error:
        raise WorkflowError(f"models.{name}: {error}") from None
    if missing := sorted(set(model.get("study", [])) - set(model.get("heads", model.get("study", [])))):
        raise WorkflowError(f"models.{name}.study: {', '.join(missing)} must be among `heads`, or leave `heads` out")
    layers = settings.config["experiments"]["neuron_layers"]
    if beyond := [layer for layer in layers if not -info.n_layers <= layer < info.n_layers]:
        raise WorkflowError(
            f"experiments.neuron_layers: {name} has {info.n_layers} layers, so not {', '.join(map(str, beyond))}; "
            "-1 is the last"
        )
    length = settings.config["tokens"]["row_length"]
    if length > info.max_positions:
        raise WorkflowError(
            f"tokens.row_length: {length} is more than the {info.max_positions} positions of {name}; lower it"
        )
    if not settings.retrained(name) and not settings.tokenizer_files(name):
        raise WorkflowError(f"models.{name}: {model['path']} holds no tokenizer; put its tokenizer.json there")


def _record(kind: str, name: str) -> str:
    return f"results/hub/records/{kind}/{name}.json"


def _check_hub(kind: str, name: str, entry: dict[str, Any]) -> None:
    """Check that configuration, lock and what was fetched before are of the same commit."""
    if "hub" not in entry:
        return
    try:
        key = lock_key(entry["hub"], entry.get("resolve", "main"))
        known = read_lock(Path(HUB_LOCK))["models" if kind == "models" else "datasets"].get(key)
        wanted = agreed_revision(Path(HUB_LOCK), key, entry.get("revision"), known)
    except HubError as error:
        raise WorkflowError(f"{kind}.{name}: {error}") from None
    record = Path(_record(kind, name))
    if wanted is None or "revision" in entry or not record.is_file():
        return  # a changed configuration makes Snakemake fetch again
    fetched = json.loads(record.read_text())
    if fetched["hub"] == entry["hub"] and fetched["revision"] != wanted:
        raise WorkflowError(
            f"{kind}.{name}: what was fetched is of {fetched['revision']}, {HUB_LOCK} now says {wanted}; delete "
            f"{record} to have it fetched again"
        )


def _check_schema(config: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(yaml.safe_load(SCHEMA.read_text()))
    error = jsonschema.exceptions.best_match(validator.iter_errors(config))
    if error is None:
        return
    place = ".".join(map(str, error.absolute_path)) or "configuration"
    if error.validator == "additionalProperties" and error.validator_value is False:
        known = sorted(error.schema.get("properties", {}))
        patterns = error.schema.get("patternProperties", {})
        unknown = [key for key in error.instance if key not in known and not any(re.search(p, key) for p in patterns)]
        hints = [f"`{key}`: {RENAMED[key]}" for key in unknown if key in RENAMED]
        allowed = f"allowed are {', '.join(known)}" if known else "names may hold letters, digits, `.`, `_` and `-`"
        raise WorkflowError(f"{place}: unknown key {', '.join(unknown)}; {allowed}. {' '.join(hints)}".rstrip())
    raise WorkflowError(f"{place}: {error.message}. {error.schema.get('description', '')}".rstrip())


def _check_keys(file: Path) -> None:
    """Refuse keys that are no text, and equal keys, of which YAML keeps the last in silence.

    Two models of one name would become one.
    """

    def check(node: yaml.Node, place: str) -> None:
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                here = f"{place}.{key.value}" if place else str(key.value)
                if key.tag != "tag:yaml.org,2002:str":
                    raise WorkflowError(f"{file}: the key `{here}` is no text; put it in quotes")
                if key.value in seen:
                    raise WorkflowError(f"{file}: `{here}` is there twice; rename or remove one")
                seen.add(key.value)
                check(value, here)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                check(value, f"{place}[{index}]")

    check(yaml.compose(Path(file).read_text()), "")


def _check_writable(folder: Path) -> None:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise WorkflowError(
            f"run: results go to {folder}, but {existing} is not a folder that can be written to; "
            "make it writable or choose another `run`"
        )


def closing_message(settings: Settings) -> str:
    """Say where the results of a finished run are."""
    results = settings.results
    places = {
        "Paper": f"{results}/paper/paper.pdf" if settings.typeset else f"{results}/paper/source.zip",
        "Figures": f"{results}/figures",
        "Tables": f"{results}/tables",
        "Claims and report": f"{results}/report/report.html",
    }
    lines = [f"{what + ':':<19} {where}" for what, where in places.items() if Path(where).exists()]
    return "\n".join(["", *lines, *([] if settings.typeset else [f"Paper as PDF: {NO_ENGINE}, then run again"]), ""])
