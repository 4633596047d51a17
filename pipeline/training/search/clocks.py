"""What ends a search: the time box of a run, or in a rebuild the counts that its run came to."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path


class TimeBox:
    """Ends after so many seconds. Each rung takes about as long as the first: a third of the candidates on three times the rows."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._began, self._seconds = now, now(), seconds
        self._ends = [self._began]

    def enough_drawn(self, drawn: int, rungs: int) -> bool:
        """Whether another candidate would leave too little time for the rungs after the first."""
        self._ends.append(self._now())
        # Not the mean: the first fit loads libraries.
        usual = statistics.median(end - begin for begin, end in pairwise(self._ends))
        return self._ends[-1] - self._began + usual * (1 + (drawn + 1) * (rungs - 1)) > self._seconds

    def over(self, fits: int) -> bool:
        return self._now() - self._began >= self._seconds

    def left(self) -> str:
        """The time left, for people."""
        seconds = max(0.0, self._seconds - (self._now() - self._began))
        return f"{seconds / 60:.1f} min left" if seconds >= 60 else f"{seconds:.0f} s left"


@dataclass(frozen=True)
class Recorded:
    """Ends where the recorded search did."""

    candidates: int
    fits: int

    def enough_drawn(self, drawn: int, rungs: int) -> bool:
        return drawn >= self.candidates

    def over(self, fits: int) -> bool:
        return fits >= self.fits

    def left(self) -> str:
        return f"{self.fits} fits, as recorded"


def recorded(file: Path) -> Recorded | None:
    """The counts in that file; None without it."""
    if not file.is_file():
        return None
    counts = json.loads(file.read_text(encoding="utf-8"))
    return Recorded(counts["candidates"], counts["fits"])
