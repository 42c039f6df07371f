"""Write the benchmark's page and the README's table."""

from selfrepair.benchmark.page import write_pages
from selfrepair.core.program import program

program(write_pages)
