"""Run a model once over all tokens."""

from selfrepair.ablation.clean_run import measure_clean
from selfrepair.core.program import program

program(measure_clean)
