"""Load a model, fold it into the canonical form, check it against Hugging Face, and save it."""

import argparse
import json
import sys
from pathlib import Path

from selfrepair.core.files import write_atomically
from selfrepair.models.load import fold_to_disk
from selfrepair.models.precision import PRECISIONS

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--directory", type=Path, required=True, help="Hugging Face model directory")
parser.add_argument("--name", required=True, help="how results call the model")
parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="in which the model is computed")
parser.add_argument("--as-published", action="store_true", help="direct effects in the units of the authors' Llama")
parser.add_argument("--output", type=Path, required=True, help="folder to write")
parser.add_argument("--facts", type=Path, required=True, help="JSON file to write: size, checksums, error of the check")
args = parser.parse_args()

try:
    facts = fold_to_disk(args.directory, args.name, args.output, args.precision, args.as_published)
except ValueError as problem:
    sys.exit(f"error: {problem}")
write_atomically(args.facts, lambda path: path.write_text(json.dumps(facts, indent=2) + "\n"))
