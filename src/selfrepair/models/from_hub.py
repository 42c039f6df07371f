"""Bring a model or a corpus from a hub: what the programs of both rules do."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from selfrepair.core.files import write_atomically, write_text
from selfrepair.models.directory import read_model_info
from selfrepair.models.fetch import fetch
from selfrepair.models.hub_lock import Locked
from selfrepair.models.load import FETCHED


def model_from_hub(
    name: str, hub: str, lock: Path, output: Path, record: Path, revision: str = "", resolve: str = "main"
) -> None:
    """Download a model's configuration, tokenizer and safetensors at a full commit hash, checked by the lock.

    Args:
        name: name of the model in the configuration.
        hub: model id, owner/name.
        lock: lock to check files by, or to fill in.
        output: directory to write.
        record: JSON file to write: commit and checksums.
        revision: full commit hash; that of the lock if absent.
        resolve: branch or tag, used where the lock has no commit yet.

    Raises:
        HubError, ModelDirectoryError: the hub is out of reach, the files are not the lock's or no such model.
    """
    fetched = fetch("models", hub, output, lock, f"models.{name}.path, set to FOLDER", FETCHED, revision, resolve)
    read_model_info(output)
    _write_record(record, hub, fetched)


def corpus_from_hub(
    name: str, hub: str, lock: Path, output: Path, record: Path, revision: str = "", resolve: str = "main"
) -> None:
    """Download a data set at a full commit hash, checked by the lock, and write its training split as Parquet.

    Args:
        name: name of the corpus in the configuration.
        hub: data set id, owner/name.
        lock: lock to check files by, or to fill in.
        output: Parquet file to write.
        record: JSON file to write: commit and checksums.
        revision: full commit hash; that of the lock if absent.
        resolve: branch or tag, used where the lock has no commit yet.

    Raises:
        HubError: the hub is out of reach, or the files are not the lock's.
    """
    from datasets import load_dataset

    snapshot, cache = (output.with_name(f".{output.stem}.{part}") for part in ("snapshot", "cache"))
    key = f"corpora.{name}.path, set to a Parquet or JSON-lines file in FOLDER"
    try:
        fetched = fetch("datasets", hub, snapshot, lock, key, None, revision, resolve)
        corpus = load_dataset(str(snapshot), split="train", cache_dir=str(cache))
        write_atomically(output, lambda path: corpus.to_parquet(str(path)))
    finally:
        for folder in (snapshot, cache):
            shutil.rmtree(folder, ignore_errors=True)
    _write_record(record, hub, fetched)


def _write_record(path: Path, hub: str, fetched: Locked) -> None:
    write_text(path, json.dumps({"hub": hub} | asdict(fetched), indent=2) + "\n")
