"""Measure one training of a controlled family along its checkpoints."""

from selfrepair.ablation.arms import measure_arm
from selfrepair.core.program import program
from selfrepair.tokens.corpus_file import CorpusError

program(measure_arm, CorpusError)
