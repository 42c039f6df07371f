"""Write results/README.md."""

from selfrepair.core.program import program
from selfrepair.report.documentation import write_results_readme

program(write_results_readme)
