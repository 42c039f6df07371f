"""Pack a finished run for a journal: results, record, and the code at the commit; the same bytes every time."""

import argparse
import sys
from pathlib import Path

from selfrepair.artifact.archive import ArchiveError, archive_run
from selfrepair.artifact.crate import CrateError, read_crate
from selfrepair.core.files import sha256

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--run", type=Path, required=True, help="folder of the run, such as results/demo")
parser.add_argument("--output", type=Path, required=True, help="archive to write, .tar.gz")
args = parser.parse_args()

try:
    packed = archive_run(read_crate(args.run), args.output)
except (CrateError, ArchiveError) as problem:
    sys.exit(f"error: {problem}")
for name in packed.left_out:
    print(f"not packed, only its SHA-256 is recorded: {name}")
print(f"{packed.code} files of code and {packed.results} of results")
print(f"{args.output}: {args.output.stat().st_size:,} bytes, SHA-256 {sha256(args.output)}")
