"""Progress of long work as plain lines, about every ten seconds."""

import sys
import time


class Progress:
    """Prints `what: done/total unit, unit/s, time left` to standard output, at most every `every` seconds."""

    def __init__(self, what: str, total: int, unit: str = "tokens", every: float = 10.0) -> None:
        self.what, self.total, self.unit, self.every = what, total, unit, every
        self.done = 0
        self.started = time.monotonic()
        self.printed = self.started - every  # the first line comes with the first tokens

    def advance(self, done: int) -> None:
        self.done += done
        now = time.monotonic()
        if now - self.printed >= self.every or self.done >= self.total:
            self.printed = now
            rate = self.done / max(now - self.started, 1e-9)
            minutes, seconds = divmod(round((self.total - self.done) / rate), 60)
            print(
                f"{self.what}: {self.done:,}/{self.total:,} {self.unit}, {rate:,.0f} {self.unit}/s, "
                f"{minutes:02d}:{seconds:02d} left",
                file=sys.stdout,
                flush=True,
            )
