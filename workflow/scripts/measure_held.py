"""Ablate heads with the later head that repairs them most held at its clean output."""

from selfrepair.ablation.held import measure_held
from selfrepair.core.program import program

program(measure_held)
