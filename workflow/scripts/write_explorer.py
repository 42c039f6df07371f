"""Write the explorer of one or several runs."""

from selfrepair.core.program import program
from selfrepair.report.explorer.page import write_page

program(write_page, FileNotFoundError, ValueError)
