"""Keep the finished trainings of a controlled family with the code."""

from selfrepair.core.program import program
from selfrepair.report.arms import keep_arms

program(keep_arms)
