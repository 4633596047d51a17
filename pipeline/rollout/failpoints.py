"""Named points around each side effect of a rollout, at which a test ends the process as a power cut would.

$PERENNIAL_FAIL_AT is `NAME` or `NAME#N`, the N-th time that the point is reached (1 when not said).
$PERENNIAL_FAILPOINTS names a file to which the points are written as they are reached: what there is to walk.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_reached: Counter[str] = Counter()


@contextmanager
def around(effect: str) -> Iterator[None]:
    """Two points: before and after the side effect."""
    reach(f"before {effect}")
    yield
    reach(f"after {effect}")


def reach(name: str) -> None:
    """Says that the point has been reached; ends the process at once when it is the one that was asked for."""
    _reached[name] += 1
    here = f"{name}#{_reached[name]}"
    if told := os.environ.get("PERENNIAL_FAILPOINTS"):
        with Path(told).open("a", encoding="utf-8") as file:
            file.write(here + "\n")
    asked = os.environ.get("PERENNIAL_FAIL_AT", "")
    if asked and here == (asked if "#" in asked else f"{asked}#1"):
        os.kill(os.getpid(), signal.SIGKILL)
