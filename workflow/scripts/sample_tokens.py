"""Tokenise a corpus with a model's tokenizer, pack it into rows, draw some, and pair them for resampling."""

import argparse
import sys
from pathlib import Path

from selfrepair.core.tables import write_parquet
from selfrepair.tokens.corpora import CorpusError, check_sha256, read_corpus
from selfrepair.tokens.rows import sample_tokens
from selfrepair.tokens.tokenizer import encode

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--corpus", type=Path, required=True, help="Parquet, JSON-lines or text file")
parser.add_argument("--sha256", default="", help="checksum that the corpus must have")
parser.add_argument("--text", default="text", help="column that holds the text")
parser.add_argument("--split", default="", help="only documents of this split")
parser.add_argument("--kinds", nargs="*", default=[], help="only documents of these kinds")
parser.add_argument("--tokenizer", type=Path, required=True, help="directory of the tokenizer")
parser.add_argument("--rows", type=int, required=True, help="rows to draw")
parser.add_argument("--row-length", type=int, required=True, help="tokens of a row")
parser.add_argument("--seed", type=int, required=True, help="seed of the draw and of the pairing")
parser.add_argument("--output", type=Path, required=True, help="folder for tokens, rows and documents")
args = parser.parse_args()

try:
    check_sha256(args.corpus, args.sha256)
    documents = read_corpus(args.corpus, args.text, args.split or None, args.kinds)
    encoded = encode(args.tokenizer, documents["text"].to_list())
    sampled = sample_tokens(*encoded, documents, args.rows, args.row_length, args.seed)
except CorpusError as error:
    sys.exit(f"error: {error}")
for name in ("tokens", "rows", "documents"):
    write_parquet(getattr(sampled, name), args.output / f"{name}.parquet")
print(f"{args.rows} rows of {args.row_length} tokens from {len(documents)} documents")
