"""Train the byte-level BPE tokenizer that the shipped models share, on the training split of a corpus."""

import argparse
from pathlib import Path

from selfrepair.tokens.corpora import read_corpus
from selfrepair.tokens.tokenizer import save_tokenizer, train_bpe

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--corpus", type=Path, required=True, help="corpus with the columns split and text")
parser.add_argument("--vocabulary-size", type=int, required=True, help="tokens of the vocabulary")
parser.add_argument("--output", type=Path, required=True, help="folder to write")
args = parser.parse_args()

texts = read_corpus(args.corpus, "text", "train", kinds=[])["text"].to_list()
save_tokenizer(train_bpe(texts, args.vocabulary_size), args.output)
