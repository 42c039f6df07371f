"""Record what a run was made with."""

from selfrepair.artifact.record import record_run
from selfrepair.core.program import program

program(record_run)
