"""What the slots counted of requests, answered and refused, beside a prediction log (see pipeline.serving.request_counts)."""

from __future__ import annotations

import json
import logging
from collections import Counter
from datetime import datetime
from pathlib import Path

from pipeline.serving.errors import KINDS
from pipeline.serving.request_counts import ANSWERED, HOUR_S, SUFFIX

logger = logging.getLogger(__name__)


def hours(folder: Path) -> dict[int, Counter[str]]:
    """The requests of each hour since 1970 by ANSWERED, or by the kind of their refusal. A file that is no such file is left out and said."""
    found: dict[int, Counter[str]] = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            counted = json.loads(path.read_text(encoding="utf-8"))
            of_file = {int(hour): {str(kind): int(n) for kind, n in kinds.items()} for hour, kinds in counted.items()}
        except (OSError, ValueError, AttributeError, TypeError, OverflowError, RecursionError) as error:
            logger.warning("%s cannot be read (%s): the requests that it counts are left out", path, error)
            continue
        for hour, kinds in of_file.items():
            found.setdefault(hour, Counter()).update(kinds)
    return found


def refused(counted: dict[int, Counter[str]], start: datetime, end: datetime) -> dict[str, int]:
    """The refused requests of the hours in [start, end) by kind, the most frequent first."""
    first, last = start.timestamp() // HOUR_S, end.timestamp() / HOUR_S
    sum_of: Counter[str] = Counter()
    for hour, kinds in counted.items():
        if first <= hour < last:
            sum_of.update({kind if kind in KINDS else "other": n for kind, n in kinds.items() if kind != ANSWERED})
    return dict(sorted(sum_of.items(), key=lambda each: (-each[1], each[0])))


def days(counted: dict[int, Counter[str]], end: datetime, most: int) -> list[tuple[int, int]]:
    """(refused, all) requests of each 24 hours before the end, the newest first, up to those of the first count, at most so many."""
    last = int(-(-end.timestamp() // HOUR_S))
    found: list[tuple[int, int]] = []
    for hour in sorted(counted, reverse=True):
        ago = (last - 1 - hour) // 24
        if 0 <= ago < most:
            found += [(0, 0)] * (ago + 1 - len(found))
            refused_then, every = found[ago]
            of_hour = counted[hour]
            found[ago] = refused_then + of_hour.total() - of_hour[ANSWERED], every + of_hour.total()
    return found
