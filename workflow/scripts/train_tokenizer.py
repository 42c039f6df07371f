"""Train the tokenizer of the shipped models."""

from selfrepair.core.program import program
from selfrepair.tokens.sample import train_tokenizer

program(train_tokenizer)
