"""Measures a step: wall and processor seconds, and peak memory, its subprocesses included.

Linux counts both for a process and for the children it has waited for (getrusage(2)); ru_maxrss is in
KiB, and that of children is the largest one's, so the peak is the larger of the two, not their sum. Stages that a server
forked are nobody's children here; they leave word (pipeline.workspaces.stage_server.ELSEWHERE).
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.ledger.events import StepEnded, StepStarted
from pipeline.ledger.store import Ledger
from pipeline.workspaces.stage_server import ELSEWHERE


@dataclass(frozen=True)
class Reading:
    """A meter's reading: `taken` is the wall clock, `cpu_s` processor seconds so far."""

    taken: float
    cpu_s: float


def read() -> Reading:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    here = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return Reading(time.monotonic(), here + ELSEWHERE.cpu_s)


def since(start: Reading) -> dict[str, float]:
    """{"wall_s", "cpu_s", "peak_mb"} from `start` to now."""
    end = read()
    here = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    peak_kib = max(*here, ELSEWHERE.peak_kib)
    return {
        "wall_s": round(end.taken - start.taken, 3),
        "cpu_s": round(end.cpu_s - start.cpu_s, 3),
        "peak_mb": round(peak_kib / 1024, 1),
    }


@contextmanager
def metered(ledger: Ledger, run: str, model: str, step: str) -> Iterator[None]:
    """Writes the start and the end of a step to the ledger, whatever way it ends."""
    ledger.append(StepStarted(), model, run, step)
    start = read()
    state, error = "success", ""
    try:
        yield
    except BaseException as raised:
        state, error = "failed", str(raised)
        raise
    finally:
        ledger.append(StepEnded(state=state, error=error, **since(start)), model, run, step)
