"""Compare a run with published per-head results."""

from selfrepair.core.program import program
from selfrepair.report.tables import compare_reference

program(compare_reference, ValueError)
