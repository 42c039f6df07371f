"""Check a finished run, or an unpacked archive of one, against its record, and recompute some token rows."""

import argparse
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path

from selfrepair.artifact.crate import CrateError, read_crate
from selfrepair.artifact.verify import Check, check_code, check_files
from selfrepair.artifact.verify_rows import check_rows
from selfrepair.artifact.verify_tables import check_tables


def positive(text: str) -> int:
    """A number of rows: with none, nothing would be recomputed."""
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--run", type=Path, required=True, help="folder of the run, such as results/demo")
parser.add_argument("--sample", type=positive, default=20, help="token rows to recompute of each model and ablation")
parser.add_argument("--seed", type=int, help="of the sample; a new one each time if not given")
args = parser.parse_args()


def failures(checks: Iterable[Check]) -> int:
    """Print each check as it is made; return how many failed."""
    failed = 0
    for check in checks:
        if check.problem is None:
            print(f"ok      {check.what}", flush=True)
        else:
            failed += 1
            print(f"FAILED  {check.what}: {check.problem}", flush=True)
    return failed


try:
    crate = read_crate(args.run)
except CrateError as problem:
    sys.exit(f"error: {problem}")
print(f"info    {check_code(crate).what}")
if failed := failures(check_files(crate)):
    sys.exit(f"{args.run} differs from its record in {failed} places; its token rows were not recomputed")
if failed := failures(check_tables(crate)):
    sys.exit(f"{args.run}: {failed} of its measurements do not agree with themselves; no token rows were recomputed")
seed = secrets.randbelow(2**32) if args.seed is None else args.seed
if failed := failures(check_rows(crate, args.sample, seed)):
    sys.exit(f"{args.run}: {failed} samples of seed {seed} are not what the weights give")
print(f"{args.run} is as recorded, and its token rows in a sample of seed {seed} are what the weights give")
