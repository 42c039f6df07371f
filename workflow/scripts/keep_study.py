"""Keep the small results of a finished run with the code."""

from selfrepair.core.program import program
from selfrepair.report.study import StudyError, keep_study

program(keep_study, StudyError)
