"""Train a small language model from scratch, resuming where an interrupted run left its checkpoint."""

import argparse
import json
from pathlib import Path

import torch
from tokenizers import Tokenizer

from selfrepair.models.train import Training, token_stream, train
from selfrepair.tokens.corpora import read_corpus

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--corpus", type=Path, required=True, help="corpus with the columns split and text")
parser.add_argument("--tokenizer", required=True, help="tokenizer.json")
parser.add_argument("--training", required=True, help="JSON of the fields of selfrepair.models.train.Training")
parser.add_argument("--threads", type=int, default=1, help="CPU threads")
parser.add_argument("--output", type=Path, required=True, help="model directory to write")
args = parser.parse_args()

torch.set_num_threads(args.threads)
tokenizer = Tokenizer.from_file(args.tokenizer)
streams = [
    token_stream(read_corpus(args.corpus, "text", split, kinds=[])["text"].to_list(), tokenizer)
    for split in ("train", "held_out")
]
state = args.output.with_name(f"{args.output.name}.state")
training = Training(**json.loads(args.training))
train(training, tokenizer, *streams, args.output, state, log=lambda line: print(line, flush=True))
