"""Pack a finished run for a journal."""

from selfrepair.artifact.archive import ArchiveError, pack
from selfrepair.artifact.crate import CrateError
from selfrepair.core.program import program

program(pack, ArchiveError, CrateError)
