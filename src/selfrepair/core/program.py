"""Turn a typed function of the package into the command line of a rule's program."""

import sys
from collections.abc import Callable

import tyro

from selfrepair.core.at_work import at_work


def program(function: Callable[..., object], *expected: type[Exception]) -> None:
    """Call a function with the command line's flags; their names, types and help are those of its signature.

    Args:
        expected: errors that end the program with their message alone, as the user can mend what they name.
    """
    try:
        with at_work():
            tyro.cli(function, config=[tyro.conf.OmitArgPrefixes])
    except expected as problem:
        sys.exit(f"error: {problem}")
