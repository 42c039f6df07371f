"""Measure of one training of a controlled family what speaks for adaptation, and what for an artefact."""

from selfrepair.ablation.adaptation import measure_adaptation
from selfrepair.core.program import program
from selfrepair.tokens.corpus_file import CorpusError

program(measure_adaptation, CorpusError)
