"""Download a model's configuration, tokenizer and safetensors from a hub at a full commit hash."""

import argparse
import sys
from pathlib import Path

from selfrepair.models.directory import read_model_info
from selfrepair.models.load import fetch_model

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--hub", required=True, help="model id, owner/name")
parser.add_argument("--revision", required=True, help="full commit hash")
parser.add_argument("--output", type=Path, required=True, help="directory to write")
args = parser.parse_args()

try:
    fetch_model(args.hub, args.revision, args.output)
    read_model_info(args.output)
except (OSError, ValueError) as error:
    sys.exit(
        f"{args.hub} at {args.revision} could not be fetched: {error}\n"
        "Check the id, the revision and the network; or bring the files by hand and set the model's `path` to them."
    )
