"""A run's configuration, checked by `checks.read_settings`, as one frozen object."""

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from selfrepair.ablation.measured import measured_tokens
from selfrepair.models.directory import authors_units_measurements, parse_head, twins
from selfrepair.models.gguf_header import is_gguf, read_header
from selfrepair.models.weight_headers import count_parameters, weight_files
from selfrepair.report.typeset import ENGINES, NO_ENGINE

SCHEMA = Path("workflow/schemas/config.schema.yaml")
TRAINING = Path("config/training.yaml")
HUB_LOCK = "config/hub.lock.yaml"
STUDIES = Path("results/studies")  # of runs whose small results are kept with the code
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

    def measure(self, *ablations: str) -> str:
        """Tokens measured under kinds of ablation: `selected` if it is so for any of them."""
        kinds = {measured_tokens(self.config["ablation"]["measure"], ablation) for ablation in ablations}
        return "selected" if "selected" in kinds else "all"

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
        """Heads to measure, in the order of the model; none named means all."""
        return sorted(self._entry(name).get("heads", []), key=parse_head)

    def highlight_heads(self, name: str) -> list[str]:
        """Heads that single-head experiments look at in any case."""
        return self._entry(name).get("highlight_heads", [])

    @property
    def gpus(self) -> int:
        """GPUs of a measuring job: with `auto` one, too, or jobs would share it."""
        return 0 if self.config["device"] == "cpu" else 1

    def memory_mb(self, name: str, attempt: int = 1) -> int:
        """Memory of a job that holds a model, in MB: as configured, or by the model's size; more with each attempt."""
        memory = self.config.get("memory", "auto")
        if memory == "auto":
            memory = MODEL_COPIES * self.weights_mb(name) + BASE_MB
        return attempt * memory

    def weights_mb(self, name: str) -> int:
        """Size of a model in float32; a guess while it is not there yet, and Snakemake asks again when a job is due."""
        if (gguf := self.gguf_file(name)) and Path(gguf).is_file():
            return math.ceil(4e-6 * read_header(Path(gguf)).n_parameters)
        files = list(Path(self.directory(name)).glob("*.safetensors"))
        return math.ceil(4e-6 * sum(map(count_parameters, files))) if files else UNKNOWN_WEIGHTS_MB

    @property
    def reference(self) -> str | None:
        """Published per-head results to compare with, if there are any."""
        return self.config.get("reference")

    @property
    def study(self) -> str | None:
        """Folder where the run's small results are kept, if the configuration names one."""
        return str(STUDIES / self.config["study"]) if "study" in self.config else None

    def of_studies(self, file: str, key: str = "studies") -> list[str]:
        """Files of this name below the kept results that this run shows beside its own."""
        return [str(path) for study in self.config[key] for path in sorted((STUDIES / study).glob(file))]

    def beyond(self, file: str) -> dict[str, str]:
        """Files of this name of the models whose findings beyond the paper are kept, by model."""
        return {Path(path).parts[4]: path for path in self.of_studies(f"analysis/*/{file}", "beyond")}

    def family(self, table: str) -> list[str]:
        """A table of the controlled family whose results are kept and shown; none if there is no such family."""
        return [str(STUDIES / self.config["family"] / f"{table}.parquet")] if "family" in self.config else []

    @property
    def as_published(self) -> list[str]:
        """Names of the second measurements, in the authors' units, of models that ask for one."""
        return list(authors_units_measurements(self.config["models"]))

    @property
    def twins(self) -> list[str]:
        """Names of the models' null twins; none if they get no rows."""
        return list(twins(self.config["models"])) if self.config["null_twins"]["rows"] else []

    def rows(self, name: str) -> int:
        """Rows of tokens that a model is measured on."""
        rows = self.config["tokens"]["rows"]
        return min(rows, self.config["null_twins"]["rows"]) if name in self.twins else rows

    def measured(self, ablation: str) -> list[str]:
        """Models that a kind of ablation is measured on: those in the authors' units and twins by resampling only."""
        more = {"resample": self.as_published + self.twins, "units": self.twins}
        return self.models + more.get(ablation, [])

    def variant(self, name: str) -> list[str]:
        """Flags of a model that is folded in another way."""
        if name in self.twins:
            return ["--shuffle", str(self.config["seed"])]
        return ["--authors-units"] if name in self.as_published else []

    def _base(self, name: str) -> str:
        """The configured model behind a name."""
        return (authors_units_measurements(self.config["models"]) | twins(self.config["models"])).get(name, name)

    def _entry(self, name: str) -> dict[str, Any]:
        return self.config["models"][self._base(name)]

    def fetched_records(self, kind: str) -> dict[str, str]:
        """Record of what was fetched: of each model or corpus from a hub, or (`wheels`) each from a package index."""
        used = [self.config["tokens"]["corpus"]] if kind == "corpora" else self.models
        section, source = ("models", "wheel") if kind == "wheels" else (kind, "hub")
        return {name: fetch_record(kind, name) for name in used if source in self.config[section][name]}

    @property
    def all_fetched(self) -> list[str]:
        """Records of everything that was fetched."""
        return [file for kind in ("models", "wheels", "corpora") for file in self.fetched_records(kind).values()]

    def as_json(self) -> str:
        return json.dumps(self.config)  # in its own order: tables and figures show models as it names them

    def retrained(self, name: str) -> bool:
        return self.config["retrain"] and "training" in self._entry(name)

    def directory(self, name: str) -> str:
        """A model's directory: as configured, or where it is trained, fetched or converted to."""
        if self.retrained(name):
            return f"{self.results}/trained/{self._base(name)}"
        if self.gguf_file(name):
            return f"results/hub/converted/{self._base(name)}"
        return self._entry(name).get("path") or f"results/hub/models/{self._base(name)}"

    def gguf_file(self, name: str) -> str | None:
        """A model's GGUF file, if it comes in one: as configured, or where it is unpacked from a wheel."""
        entry = self._entry(name)
        if "wheel" in entry:
            return f"results/hub/wheels/{self._base(name)}.gguf"
        return entry["path"] if is_gguf(entry.get("path", "")) else None

    def _made(self, name: str) -> bool:
        """Whether a rule makes the model's directory: one that is fetched or converted."""
        return "hub" in self._entry(name) or self.gguf_file(name) is not None

    def tokenizer_directory(self, name: str) -> str:
        """Where a model's tokenizer is; that of retrained models is there before they are."""
        return f"{self.results}/trained/tokenizer" if self.retrained(name) else self.directory(name)

    def model_files(self, name: str) -> list[str]:
        """Files of a model that a rule depends on; of a fetched or converted one, the directory."""
        folder = Path(self.directory(name))
        if self.retrained(name):
            return [str(folder / file) for file in TRAINED_FILES]
        if self._made(name):
            return [str(folder)]
        return [str(folder / "config.json"), *map(str, weight_files(folder))]

    def tokenizer_files(self, name: str) -> list[str]:
        """Files of a model's tokenizer that a rule depends on; of a fetched or converted one, the directory."""
        folder = Path(self.tokenizer_directory(name))
        if self.retrained(name):
            return [str(folder / file) for file in TOKENIZER_FILES]
        if self._made(name):
            return [str(folder)]
        named = ("tokenizer*", "vocab*", "merges.txt", "added_tokens.json", "special_tokens_map.json", "*.model")
        return sorted(str(file) for pattern in named for file in folder.glob(pattern))

    def training_records(self, file: str) -> dict[str, str]:
        """Path of `training.csv` or `training.json` of each model that has one."""
        folders = {name: Path(self.directory(name)) for name in self.models}
        return {n: str(f / file) for n, f in folders.items() if self.retrained(n) or (f / file).is_file()}

    @property
    def typeset(self) -> bool:
        """Whether a TeX engine is there to compile the paper."""
        return any(shutil.which(engine) for engine in ENGINES)


def fetch_record(kind: str, name: str) -> str:
    """Where the record of a fetched model or corpus is."""
    return f"results/hub/records/{kind}/{name}.json"


def where_results_are(settings: Settings) -> str:
    """Say where the results of a finished run are."""
    results = settings.results
    places = {
        "Paper": f"{results}/paper/paper.pdf" if settings.typeset else f"{results}/paper/source.zip",
        "Figures": f"{results}/figures",
        "Tables": f"{results}/tables",
        "Claims and report": f"{results}/report/report.html",
        "Explorer": f"{results}/report/explorer.html",
    }
    lines = [f"{what + ':':<19} {where}" for what, where in places.items() if Path(where).exists()]
    return "\n".join(["", *lines, *([] if settings.typeset else [f"Paper as PDF: {NO_ENGINE}, then run again"]), ""])
