"""A backtest: a year of flights in weeks, one more week, the same again, and all policies on it, in processor seconds.

The limits are on shares of the first one, and on what is trained: seconds are those of this machine.
"""

from __future__ import annotations

import resource
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.limits import within_limit
from pipeline.policy.retraining.comparison import compare
from pipeline.runs.backtest.matrix import LossMatrix, build
from pipeline.runs.backtest.past import Span
from pipeline.settings.environment import Environment
from pipeline.settings.models import load

MODEL, WEEKS = "flight-delay", 48
FIRST = datetime(2013, 1, 22, tzinfo=UTC)


def main() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        whole, first = _measured("a year of flights in weeks", Path(folder), WEEKS)
        more, longer = _measured("one more week", Path(folder), WEEKS + 1)
        again, same = _measured("the same again", Path(folder), WEEKS + 1)
    begin = time.process_time()
    compare(longer.history, cost=0.04)
    policies = time.process_time() - begin
    print(f"all policies on it: {policies:.2f} CPU s")
    return all(
        [
            within_limit("versions trained for one more week", longer.trained, 1),
            within_limit("versions trained for the same again", same.trained, 0),
            within_limit("processor time of one more week, as a share of the year's", more / whole, 0.12),
            within_limit("of the same again", again / whole, 0.06),
            within_limit("of all policies", policies / whole, 0.05),
            within_limit("versions trained for the year", first.trained, WEEKS, at_least=True),
        ]
    )


def _measured(name: str, folder: Path, weeks: int) -> tuple[float, LossMatrix]:
    """Processor seconds of this process and those that it started, and the matrix."""
    root = Environment.read().project
    model, begin, cpu = load(root).model(MODEL), time.monotonic(), _cpu()
    matrix = build(MODEL, model, root, folder, Span(FIRST, FIRST + timedelta(days=7 * weeks), 7))
    spent = _cpu() - cpu
    print(f"{name}: {spent:.1f} CPU s, {time.monotonic() - begin:.1f} s, {matrix.trained} versions trained")
    return spent, matrix


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
