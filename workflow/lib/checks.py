"""Checks of a run's configuration before anything starts; each message names the key or the file, and the fix.

Only the standard library and what Snakemake brings are imported here.
"""

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from configuration import check_configuration
from content import digest
from kept import read_kept
from settings import HUB_LOCK, SCHEMA, STUDIES, TRAINING, Settings, fetch_record
from snakemake.exceptions import WorkflowError

from selfrepair.ablation.unit_names import coded_units
from selfrepair.models.directory import check_authors_units, check_heads, model_info, read_model_info
from selfrepair.models.gguf_header import MISSING_GGUF, read_gguf_info
from selfrepair.models.hub_lock import HubError, agreed_revision, lock_key, read_lock
from selfrepair.tokens.corpus_file import CorpusError, check_corpus_file, check_sha256
from selfrepair.tokens.tokenizer_file import check_tokenizer_file

LOOKED_AT = 1_000_000  # bytes of a corpus before a run; all of it when tokens are sampled
MOST_SHARDS = 10_000  # of a model and kind of ablation; each is a job


def read_settings(config: dict[str, Any], configfiles: list[Path]) -> Settings:
    """Check a configuration and return it.

    Raises:
        WorkflowError: something in it can't be used; the message names the key or the file, and the fix.
    """
    # On the command line Snakemake reads `retrain=true` as text.
    if config.get("retrain") in ("true", "false"):
        config["retrain"] = config["retrain"] == "true"
    check_configuration(config, configfiles, SCHEMA)
    settings = Settings(config, f"results/{config['run']}")
    if settings.shards > MOST_SHARDS:
        raise WorkflowError(
            f"ablation.tokens_per_shard: {settings.shards:,} shards are more than the {MOST_SHARDS:,} that can be "
            "planned; raise it, or lower tokens.rows"
        )
    _check_writable(Path(settings.results))
    corpus = config["tokens"]["corpus"]
    if corpus not in config["corpora"]:
        known = ", ".join(config["corpora"])
        raise WorkflowError(f"tokens.corpus: `{corpus}` is not under `corpora`, which lists {known}")
    _check_hub("corpora", corpus, settings.corpus)
    if clash := set(settings.as_published) & set(settings.models):
        raise WorkflowError(f"models: {', '.join(clash)} is how `as_published` names its measurement; rename the model")
    for key in ("studies", "beyond"):
        for study in config[key]:
            if not (claims := STUDIES / study / "report/claims.json").is_file():
                raise WorkflowError(f"{key}: {STUDIES / study} holds no kept results; correct or remove `{study}`")
            read_kept(claims, claims=list)
    if absent := [file for file in settings.family("differences") if not Path(file).is_file()]:
        raise WorkflowError(f"family: {absent[0]} does not exist; make the family first, or remove `family`")
    if "reference" in config and not Path(config["reference"]).is_file():
        raise WorkflowError(f"reference: {config['reference']} does not exist; correct or remove it")
    if "reference" in config and find_spec("polars"):
        from selfrepair.claims.published import read_reference

        try:
            read_reference(Path(config["reference"]), config["analysis"]["top_fraction"])
        except ValueError as error:
            raise WorkflowError(f"reference: {error}") from None
    if "path" in settings.corpus:
        try:
            _check_corpus(settings)
        except CorpusError as error:
            raise WorkflowError(f"corpora.{corpus}.path: {error}") from None
    if clash := set(settings.twins) & set(settings.models):
        raise WorkflowError(f"models: {', '.join(clash)} is what the null twin of a model is called; rename the model")
    for name, model in config["models"].items():
        _check_model(name, model, settings)
    return settings


def _check_corpus(settings: Settings) -> None:
    file, entry, tokens = Path(settings.corpus_file), settings.corpus, settings.config["tokens"]
    check_corpus_file(file, entry["text"], LOOKED_AT)
    check_sha256(file, entry.get("sha256", ""), lambda path: digest(str(path)))
    if file.suffix == ".parquet" and find_spec("polars"):
        from selfrepair.tokens.corpora import check_parquet

        check_parquet(file, entry["text"], tokens.get("split"), tokens.get("kinds", []))


def _check_model(name: str, model: dict[str, Any], settings: Settings) -> None:
    if "training" in model and model["training"] not in settings.training["models"]:
        known = ", ".join(settings.training["models"])
        raise WorkflowError(f"models.{name}.training: `{model['training']}` is not in {TRAINING}; it lists {known}")
    if "hub" in model:
        _check_hub("models", name, model)
        return  # not there yet; checked when it is fetched and measured
    gguf = settings.gguf_file(name)
    if gguf and find_spec("gguf") is None and find_spec("torch"):  # without torch, rules have their own environment
        raise WorkflowError(f"models.{name}: {MISSING_GGUF}")
    if "wheel" in model and not Path(gguf).is_file():
        return
    try:
        if settings.retrained(name):
            info = model_info(settings.training["models"][model["training"]]["architecture"])
        else:
            info = read_gguf_info(Path(gguf)) if gguf else read_model_info(Path(model["path"]))
        check_heads(info, model.get("heads", []), name)
        coded_units(settings.config["ablation"]["units"], info.n_layers, info.n_heads)
        if model.get("as_published"):
            check_authors_units(info.family)
        check_heads(info, model.get("highlight_heads", []), name, "highlight_heads")
    except ValueError as error:
        raise WorkflowError(f"models.{name}: {error}") from None
    highlighted = set(model.get("highlight_heads", []))
    if missing := ", ".join(sorted(highlighted - set(model.get("heads", highlighted)))):
        raise WorkflowError(f"models.{name}.highlight_heads: {missing} must be among `heads`, or leave `heads` out")
    if info.n_layers == 1:
        raise WorkflowError(f"models.{name}: it has a single layer, so there are no later ones to repair; remove it")
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
    tokenizer = Path(settings.tokenizer_directory(name), "tokenizer.json")
    try:
        if tokenizer.is_file():
            check_tokenizer_file(tokenizer)
    except ValueError as error:
        raise WorkflowError(f"models.{name}: {error}") from None


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
    record = Path(fetch_record(kind, name))
    if wanted is None or "revision" in entry or not record.is_file():
        return  # a changed configuration makes Snakemake fetch again
    try:
        fetched = json.loads(record.read_text())
    except ValueError as error:
        raise WorkflowError(f"{record} is damaged ({error}); delete it to have {name} fetched again") from None
    if fetched["hub"] == entry["hub"] and fetched["revision"] != wanted:
        raise WorkflowError(
            f"{kind}.{name}: what was fetched is of {fetched['revision']}, {HUB_LOCK} now says {wanted}; delete "
            f"{record} to have it fetched again"
        )


def _check_writable(folder: Path) -> None:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise WorkflowError(
            f"run: results go to {folder}, but {existing} is not a folder that can be written to; "
            "make it writable or choose another `run`"
        )
