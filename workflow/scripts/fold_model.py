"""Load a model, fold it into the canonical form, check it against Hugging Face, and save it."""

import argparse
import json
import sys
from pathlib import Path

from selfrepair.models.folded import save_folded
from selfrepair.models.load import load_checked, model_facts
from selfrepair.store import write_whole

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--directory", type=Path, required=True, help="Hugging Face model directory")
parser.add_argument("--name", required=True, help="how results call the model")
parser.add_argument("--output", type=Path, required=True, help="safetensors file to write")
parser.add_argument("--facts", type=Path, required=True, help="JSON file to write: size, checksums, error of the check")
args = parser.parse_args()

try:
    model, error = load_checked(args.directory, args.name)
except ValueError as problem:
    sys.exit(f"error: {problem}")
write_whole(args.output, lambda path: save_folded(model, path))
facts = json.dumps(model_facts(model, args.directory, error), indent=2)
write_whole(args.facts, lambda path: path.write_text(facts + "\n"))
