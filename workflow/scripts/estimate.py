"""Say about how long a run takes."""

from selfrepair.benchmark.estimate import estimate_run
from selfrepair.core.program import program

program(estimate_run)
