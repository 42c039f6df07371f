"""Gather what the explorer shows of one model."""

from selfrepair.core.program import program
from selfrepair.report.explorer.data import write_data

program(write_data)
