"""The configuration of a controlled family: which trainings there are, with what settings, and which are kept."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from configuration import check_configuration
from content import digest
from kept import damaged, read_kept
from settings import STUDIES, TOKENIZER_FILES
from snakemake.exceptions import WorkflowError

from selfrepair.models.families import DECODER
from selfrepair.tokens.corpus_file import CorpusError, check_corpus_file
from selfrepair.tokens.tokenizer_file import END_OF_TEXT, check_tokenizer_file

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
        return path.is_file() and read_kept(path, training=dict).items() >= settings.items()

    @property
    def is_compared(self) -> bool:
        """Whether what is kept was made of exactly these trainings, with this bound and so many replicates."""
        if not all([*map(self.is_kept, self.trainings), *(self.is_kept(of, "adaptation.json") for of in self.bases)]):
            return False
        named = self._kept("arms", lambda row: f"{row['arm']}-{row['seed']}")
        bases = self._kept("evidence", lambda row: f"base-{row['seed']}") - {"base-"}  # of all seeds together
        compared = self._kept("differences", lambda row: (float(row["bound"]), row.get("replicates")))
        asked = {(self.config["bound"], str(self.config["bootstrap_replicates"]))}
        return (named, bases, compared) == (set(self.trainings), set(self.bases), asked)

    def _kept(self, table: str, what: Callable[[dict[str, str]], Any]) -> set[Any]:
        """What the rows of a kept table say."""
        path = self.study / f"{table}.csv"
        if not path.is_file():
            return set()
        try:
            return set(map(what, csv.DictReader(path.read_text().splitlines())))
        except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
            raise damaged(path, repr(error)) from None

    def folder(self, name: str, file: str = "arm.json") -> str:
        """Where the results of a training are, or will be made."""
        return f"{self.study if self.is_kept(name, file) else self.results}/arms/{name}"


def read_family(config: dict[str, Any], configfiles: list[Path]) -> Family:
    """Check a family's configuration and return it.

    Raises:
        WorkflowError: something in it can't be used; the message names the key or the file, and the fix.
    """
    check_configuration(config, configfiles, SCHEMA)
    _check_text(config)
    _check_arms(config)
    training = config["training"]
    if training["checkpoints"] != sorted(training["checkpoints"]) or training["checkpoints"][-1] != training["steps"]:
        raise WorkflowError(f"training.checkpoints: they must ascend and end with training.steps ({training['steps']})")
    if training["warmup_steps"] >= training["steps"]:
        raise WorkflowError(f"training.warmup_steps: must be less than training.steps ({training['steps']})")
    if config["seeds"]["base"] < config["seeds"]["arms"]:
        raise WorkflowError("seeds.base: an arm's seed needs one of the base to be compared with; raise it")
    return Family(config)


def _check_text(config: dict[str, Any]) -> None:
    corpus, tokenizer = Path(config["corpus"]), Path(config["tokenizer"])
    try:
        check_corpus_file(corpus, "text")
        if find_spec("polars"):
            from selfrepair.tokens.corpora import check_parquet

            for split in ("train", "held_out"):
                check_parquet(corpus, "text", split, [])
    except CorpusError as error:
        raise WorkflowError(f"corpus: {error}") from None
    if missing := [file for file in TOKENIZER_FILES if not (tokenizer / file).is_file()]:
        raise WorkflowError(f"tokenizer: {tokenizer} holds no {missing[0]}; put it there, or correct the path")
    try:
        check_tokenizer_file(tokenizer / "tokenizer.json")
    except CorpusError as error:
        raise WorkflowError(f"tokenizer: {error}") from None
    if f'"{END_OF_TEXT}"' not in (tokenizer / "tokenizer.json").read_text():
        raise WorkflowError(f"tokenizer: {tokenizer} has no token {END_OF_TEXT}, which separates documents; add it")


def _check_arms(config: dict[str, Any]) -> None:
    described = yaml.safe_load(SCHEMA.read_text())["$defs"]["features"]["properties"]
    defaults = {name: field["default"] for name, field in described.items() if "default" in field}
    longest = max(config[key]["row_length"] for key in ("training", "measured"))
    seen: dict[str, dict[str, Any]] = {}
    for arm, features in {"base": {}, **config["arms"]}.items():
        place = arm if arm == "base" else f"arms.{arm}"
        whole = defaults | config["base"] | features
        whole.setdefault("num_key_value_heads", whole["num_attention_heads"])
        _check_features(place, whole, longest)
        if same := [other for other, of_other in seen.items() if of_other == whole]:
            raise WorkflowError(f"{place}: it does not differ from {same[0]}; change a field or remove it")
        seen[place] = whole


def _check_features(place: str, features: dict[str, Any], longest: int) -> None:
    """Check what a schema can't say of a decoder's fields, as `DecoderConfig` would when it is trained."""
    heads, kv_heads = features["num_attention_heads"], features["num_key_value_heads"]
    width, positions = features["hidden_size"], features["max_position_embeddings"]
    refused = {
        f"num_attention_heads: {heads} do not divide a hidden_size of {width}; change one of them": width % heads,
        f"num_key_value_heads: {kv_heads} do not divide the {heads} heads; change one of them": heads % kv_heads,
        "rotary: it turns pairs of dimensions, and those of a head are odd; change num_attention_heads": (
            features["rotary"] and width // heads % 2
        ),
        "norm: without a final norm what a head writes can't be split if it is rms; set it to layer": (
            features["norm"] == "rms" and not features["final_norm"]
        ),
        f"max_position_embeddings: {positions} are fewer than the {longest} tokens of a row; raise it, or lower "
        "training.row_length and measured.row_length": positions < longest,
    }
    for said, is_so in refused.items():
        if is_so:
            raise WorkflowError(f"{place}.{said}")
