"""Download the training split of a hub's data set at a full commit hash, as one Parquet file."""

import argparse
import sys
from pathlib import Path

from datasets import load_dataset

from selfrepair.store import write_whole

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--hub", required=True, help="data set id, owner/name")
parser.add_argument("--revision", required=True, help="full commit hash")
parser.add_argument("--output", type=Path, required=True, help="Parquet file to write")
args = parser.parse_args()

try:
    corpus = load_dataset(args.hub, revision=args.revision, split="train")
except (OSError, ValueError) as error:
    sys.exit(
        f"{args.hub} at {args.revision} could not be fetched: {error}\n"
        "Check the id, the revision and the network; or bring a file by hand and set the corpus's `path` to it."
    )
write_whole(args.output, lambda path: corpus.to_parquet(str(path)))
