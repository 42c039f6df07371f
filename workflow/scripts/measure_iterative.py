"""Skip layers, and add heads' outputs to what they read."""

from selfrepair.ablation.iterative import measure_iterative
from selfrepair.core.program import program

program(measure_iterative)
