"""Write the README's picture and its table of findings."""

from selfrepair.core.program import program
from selfrepair.report.readme import write_readme

program(write_readme)
