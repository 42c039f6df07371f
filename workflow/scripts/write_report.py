"""Write the report of a run."""

from selfrepair.core.program import program
from selfrepair.report.html import write_report

program(write_report)
