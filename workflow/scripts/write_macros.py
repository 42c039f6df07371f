"""Write the numbers of the paper's prose as TeX macros."""

from selfrepair.core.program import program
from selfrepair.report.macros import write_macros

program(write_macros)
