"""Compare a run with what is kept of it."""

from selfrepair.core.program import program
from selfrepair.report.study import StudyError, compare_study

program(compare_study, StudyError)
