"""All checks of a finished run, in the order in which a failure makes the next ones idle."""

import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from selfrepair.artifact.crate import read_crate
from selfrepair.artifact.verify import Check, check_code, check_files
from selfrepair.artifact.verify_again import check_again
from selfrepair.artifact.verify_rows import check_rows
from selfrepair.artifact.verify_tables import check_tables


class VerificationError(Exception):
    """A run is not as recorded, or its numbers are not what the weights give."""


def verify_run(run: Path, sample: int = 20, seed: int | None = None, again: bool = True) -> None:
    """Check a finished run, or an unpacked archive of one, against its record, and make results of it again.

    Args:
        run: folder of the run, such as results/demo.
        sample: token rows to recompute of each model and ablation.
        seed: of the sample; a new one each time if not given.
        again: make statistics, tables, verdicts and macros again of what was measured.

    Raises:
        CrateError: there is no record, or it can't be read.
        VerificationError: a check failed; each is printed as it is made.
        ValueError: sample is not positive, or the seed is negative.
    """
    if seed is not None and seed < 0:
        raise ValueError(f"seed: {seed} is below 0; give a whole number from 0")
    if sample < 1:
        raise ValueError(f"sample: {sample} token rows would check nothing; give at least 1")
    crate = read_crate(run)
    if failed := _failures(check_files(crate)):
        raise VerificationError(f"{run} differs from its record in {failed} places; its token rows were not recomputed")
    print(f"info    {check_code(crate).what}")
    if failed := _failures(check_tables(crate)):
        raise VerificationError(
            f"{run}: {failed} of its measurements do not agree with themselves; no token rows were recomputed"
        )
    seed = secrets.randbelow(2**32) if seed is None else seed
    if failed := _failures(check_rows(crate, sample, seed)):
        raise VerificationError(f"{run}: {failed} samples of seed {seed} are not what the weights give")
    if again and (failed := _failures(check_again(crate))):
        raise VerificationError(f"{run}: {failed} results are not what its measurements give")
    print(f"{run} is as recorded, and its token rows in a sample of seed {seed} are what the weights give")


def _failures(checks: Iterable[Check]) -> int:
    """Print each check as it is made; return how many failed."""
    failed = 0
    for check in _readable(checks):
        failed += check.problem is not None
        said = f"ok      {check.what}" if check.problem is None else f"FAILED  {check.what}: {check.problem}"
        print(said, flush=True)
    return failed


def _readable(checks: Iterable[Check]) -> Iterator[Check]:
    """The checks, and one that fails where files are as recorded and yet not what a run writes."""
    try:
        yield from checks
    except (OSError, LookupError, TypeError, ValueError, AttributeError, pl.exceptions.PolarsError) as error:
        said = str(error).splitlines()
        yield Check("a file of the record", f"it can't be read as a run writes it: {type(error).__name__}: {said[:1]}")
