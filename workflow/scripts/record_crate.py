"""Write the record of a run."""

from selfrepair.artifact.crate import record_crate
from selfrepair.core.program import program

program(record_crate)
