"""Compare a run with what is kept of it."""

from selfrepair.artifact.study import StudyError, compare_study
from selfrepair.core.program import program

program(compare_study, StudyError)
