"""Build the corpus of CPython's standard library from the Python that runs this."""

import argparse
import sysconfig
from pathlib import Path

from selfrepair.corpora import build_python_corpus, standard_library_topics
from selfrepair.store import write_parquet

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--output", type=Path, required=True, help="Parquet file to write")
args = parser.parse_args()

corpus = build_python_corpus(Path(sysconfig.get_path("stdlib")), standard_library_topics())
write_parquet(corpus, args.output)
print(corpus.group_by("split", "kind").len().sort("split", "kind"))
