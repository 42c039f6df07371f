"""Build the corpus of CPython's standard library from the Python that runs this."""

import argparse
import sysconfig
from pathlib import Path

from selfrepair.core.tables import write_parquet
from selfrepair.tokens.stdlib_corpus import build_python_corpus, standard_library_topics

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--output", type=Path, required=True, help="Parquet file to write")
args = parser.parse_args()

corpus = build_python_corpus(Path(sysconfig.get_path("stdlib")), standard_library_topics())
write_parquet(corpus, args.output)
print(corpus.group_by("split", "kind").len().sort("split", "kind"))
