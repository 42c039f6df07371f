"""Download a model's configuration, tokenizer and safetensors from a hub at a full commit hash, checked by the lock."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from selfrepair.core.files import write_atomically
from selfrepair.models.directory import read_model_info
from selfrepair.models.fetch import fetch
from selfrepair.models.load import FETCHED

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--name", required=True, help="name of the model in the configuration")
parser.add_argument("--hub", required=True, help="model id, owner/name")
parser.add_argument("--revision", default="", help="full commit hash; that of the lock if absent")
parser.add_argument("--resolve", default="main", help="branch or tag, used where the lock has no commit yet")
parser.add_argument("--lock", type=Path, required=True, help="lock to check files by, or to fill in")
parser.add_argument("--output", type=Path, required=True, help="directory to write")
parser.add_argument("--record", type=Path, required=True, help="JSON file to write: commit and checksums")
args = parser.parse_args()

try:
    key = f"models.{args.name}.path, set to FOLDER"
    found = fetch("models", args.hub, args.output, args.lock, key, FETCHED, args.revision, args.resolve)
    read_model_info(args.output)
except (OSError, ValueError) as error:
    sys.exit(f"error: {error}")
record = json.dumps({"hub": args.hub} | asdict(found), indent=2)
write_atomically(args.record, lambda path: path.write_text(record + "\n"))
