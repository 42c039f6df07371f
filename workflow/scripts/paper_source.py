"""Archive the sources of the paper."""

from selfrepair.core.program import program
from selfrepair.report.typeset import archive_source

program(archive_source)
