"""How many requests a process answered, and how many it refused for what kind of reason: an hour each, in one small file beside its log.

The prediction log has the rows that were answered; a request that was refused has none. The file is written anew now and then, and at the end.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path

SUFFIX = ".requests"
ANSWERED = "answered"
HOUR_S = 3600
EVERY_S = 20.0


class RequestCounts:
    """`add` is for one thread, `write` for another."""

    def __init__(self, folder: Path, stem: str) -> None:
        self._file = folder / f"{stem}{SUFFIX}"
        self._counts: Counter[tuple[int, str]] = Counter()
        self._written, self._next = 0, 0.0

    def add(self, kind: str) -> None:
        """Counts a request: ANSWERED, or why it was refused, one of errors.KINDS."""
        self._counts[int(time.time()) // HOUR_S, kind] += 1

    def write(self, last: bool = False) -> None:
        """Writes what is new, where it is time to, or the `last` one. Raises OSError."""
        now = time.monotonic()
        if now < self._next and not last:
            return
        self._next = now + EVERY_S
        # A copy, made at once: the other thread goes on counting.
        counted = dict(self._counts)
        if (total := sum(counted.values())) == self._written:
            return
        hours: dict[str, dict[str, int]] = {}
        for (hour, kind), count in counted.items():
            hours.setdefault(str(hour), {})[kind] = count
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = self._file.with_name(f"{self._file.name}.new")
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(hours, file)
        aside.replace(self._file)
        self._written = total
