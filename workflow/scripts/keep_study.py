"""Keep the small results of a finished run with the code."""

from selfrepair.artifact.study import StudyError, keep_study
from selfrepair.core.program import program

program(keep_study, StudyError)
