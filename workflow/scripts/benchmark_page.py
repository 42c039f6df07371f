"""Write the benchmark's page."""

from selfrepair.benchmark.page import write_page
from selfrepair.core.program import program

program(write_page)
