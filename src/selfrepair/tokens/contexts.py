"""Tokens as readable text: what stands before a prediction, and what is predicted."""

from collections.abc import Callable

from jaxtyping import Int
from numpy import ndarray

CONTEXTS = 3  # shown of a thing
BEFORE = 8  # tokens shown before the predicted one
ARROW = " >> "  # between them and the predicted token
ESCAPED: dict[str, str | int | None] = {"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}

Decode = Callable[[list[int]], str]


def context(row: Int[ndarray, " pos"], pos: int, decode: Decode) -> str:
    """Text of up to `BEFORE` tokens of a row, the last at `pos`, and of the token after them; on one line."""
    before, predicted = row[max(0, pos + 1 - BEFORE) : pos + 1].tolist(), row[pos + 1 : pos + 2].tolist()
    return (decode(before) + ARROW + decode(predicted)).translate(str.maketrans(ESCAPED))
