"""Progress of long work as plain lines, about every ten seconds."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Part = TypeVar("Part")


class Progress:
    """Prints `what: layer 4/12, done/total unit, unit/s, time left` to standard output, at most every `every` seconds.

    Args:
        total: how much there is to do, in the unit that lines are in.
        work: the same in the unit that `advance` counts in; None where that is the unit of the lines.
    """

    def __init__(
        self, what: str, total: int, unit: str = "tokens", work: int | None = None, every: float = 10.0
    ) -> None:
        self.what, self.total, self.unit, self.every = what, total, unit, every
        self.work = total if work is None else work
        self.done = 0
        self.started = time.monotonic()
        self.printed = self.started - every  # the first line comes with the first work

    def advance(self, done: int, at: str = "") -> None:
        """Count what has been done.

        Args:
            at: where in the work that is, such as `layer 4/12`.
        """
        self.done += done
        now = time.monotonic()
        if now - self.printed >= self.every or self.done >= self.work:
            self.printed = now
            share = self.done / max(self.work, 1)
            elapsed = max(now - self.started, 1e-9)
            minutes, seconds = divmod(round(elapsed * (1 - share) / share), 60)
            place = f"{at}, " if at and self.done < self.work else ""
            print(
                f"{self.what}: {place}{round(share * self.total):,}/{self.total:,} {self.unit}, "
                f"{share * self.total / elapsed:,.0f} {self.unit}/s, {minutes:02d}:{seconds:02d} left",
                file=sys.stdout,
                flush=True,
            )

    def over(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Yield some parts, each of which counts 1 when the next is asked for."""
        for part in parts:
            yield part
            del part  # or it would be kept while the next is made
            self.advance(1)

    def in_layer(self, done: int, index: int, n_layers: int) -> None:
        """Count what has been done in a layer of a model."""
        self.advance(done, f"layer {index + 1}/{n_layers}")
