"""Download a hub's data set at a full commit hash, checked by the lock, and write its training split as Parquet."""

import argparse
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from datasets import load_dataset

from selfrepair.core.files import write_atomically
from selfrepair.models.fetch import fetch

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--name", required=True, help="name of the corpus in the configuration")
parser.add_argument("--hub", required=True, help="data set id, owner/name")
parser.add_argument("--revision", default="", help="full commit hash; that of the lock if absent")
parser.add_argument("--resolve", default="main", help="branch or tag, used where the lock has no commit yet")
parser.add_argument("--lock", type=Path, required=True, help="lock to check files by, or to fill in")
parser.add_argument("--output", type=Path, required=True, help="Parquet file to write")
parser.add_argument("--record", type=Path, required=True, help="JSON file to write: commit and checksums")
args = parser.parse_args()

snapshot, cache = (args.output.with_name(f".{args.output.stem}.{part}") for part in ("snapshot", "cache"))
try:
    key = f"corpora.{args.name}.path, set to a Parquet or JSON-lines file in FOLDER"
    found = fetch("datasets", args.hub, snapshot, args.lock, key, None, args.revision, args.resolve)
    corpus = load_dataset(str(snapshot), split="train", cache_dir=str(cache))
    write_atomically(args.output, lambda path: corpus.to_parquet(str(path)))
except (OSError, ValueError) as error:
    sys.exit(f"error: {error}")
finally:
    for folder in (snapshot, cache):
        shutil.rmtree(folder, ignore_errors=True)
record = json.dumps({"hub": args.hub} | asdict(found), indent=2)
write_atomically(args.record, lambda path: path.write_text(record + "\n"))
