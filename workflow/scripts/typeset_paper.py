"""Typeset the paper."""

from selfrepair.core.program import program
from selfrepair.report.typeset import TypesetError, typeset_source

program(typeset_source, TypesetError)
