"""Draw rows of tokens from a corpus."""

from selfrepair.core.program import program
from selfrepair.tokens.corpus_file import CorpusError
from selfrepair.tokens.sample import sample

program(sample, CorpusError)
