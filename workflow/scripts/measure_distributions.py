"""Ablate all heads on several kinds of text and of generated prompts."""

from selfrepair.ablation.distributions import measure_distributions
from selfrepair.core.program import program
from selfrepair.tokens.corpus_file import CorpusError

program(measure_distributions, CorpusError)
