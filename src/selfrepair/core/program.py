"""Turn a typed function of the package into the command line of a rule's program."""

import sys
from collections.abc import Callable

import tyro

from selfrepair.core.at_work import at_work
from selfrepair.core.files import TableError


def program(function: Callable[..., object], *expected: type[Exception]) -> None:
    """Call a function with the command line's flags; their names, types and help are those of its signature.

    Args:
        expected: errors that end the program with their message alone, as the user can mend what they name; one of
            them is always a result that can't be read.
    """
    mendable: tuple[type[Exception], ...] = (TableError, *expected)
    try:
        with at_work():
            tyro.cli(function, config=[tyro.conf.OmitArgPrefixes])
    except mendable as problem:
        sys.exit(f"error: {problem}")
