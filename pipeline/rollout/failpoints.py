"""Named points around each side effect of a rollout, at which a test ends the process as a power cut would.

$PERENNIAL_FAIL_AT is `NAME` or `NAME#N`: the process ends the N-th time that the point is reached, or the first time.
$PERENNIAL_FAILPOINTS names a file; each point is added to it when it is reached, so that a test knows them all.
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
    """Records that the point was reached; kills this process when it is the one of $PERENNIAL_FAIL_AT."""
    _reached[name] += 1
    point = f"{name}#{_reached[name]}"
    if path := os.environ.get("PERENNIAL_FAILPOINTS"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(point + "\n")
    fail_at = os.environ.get("PERENNIAL_FAIL_AT", "")
    if fail_at and point == (fail_at if "#" in fail_at else f"{fail_at}#1"):
        os.kill(os.getpid(), signal.SIGKILL)
