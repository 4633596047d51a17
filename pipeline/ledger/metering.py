"""Measures a step: wall and processor seconds, and peak memory, its subprocesses included.

Linux counts both for a process and for the children it has waited for (getrusage(2)). ru_maxrss is in KiB; for children it is
the largest child's, so the peak is the larger of the two values, not their sum. The stage server's processes are not children
of this one; they report their usage in a file (pipeline.workspaces.stage_server.ELSEWHERE). Energy is metered where the machine tells
(pipeline.ledger.energy).
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.ledger import energy
from pipeline.ledger.energy import EnergyReading
from pipeline.ledger.events import StepEnded, StepStarted
from pipeline.ledger.store import Ledger
from pipeline.workspaces.stage_server import ELSEWHERE


@dataclass(frozen=True)
class Reading:
    """The state of the meter: `monotonic_s` is time.monotonic(), `cpu_s` the processor seconds so far, `energy` the machine's."""

    monotonic_s: float
    cpu_s: float
    energy: EnergyReading | None = None


@dataclass(frozen=True)
class Usage:
    """Wall and processor seconds between two readings, and the peak memory in MiB since the process started. `energy_j` is the step's
    share of the machine's energy; None where that has no meter."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    energy_j: float | None = None


def read_meter() -> Reading:
    """Of this process, its ended children and what other processes did for it; `usage_since` makes a Usage of it."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return Reading(time.monotonic(), cpu_s + ELSEWHERE.cpu_s, energy.read())


def usage_since(start: Reading) -> Usage:
    """What was used from `start` to now."""
    end = read_meter()
    peaks_kib = (resource.getrusage(scope).ru_maxrss for scope in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return Usage(
        wall_s=round(end.monotonic_s - start.monotonic_s, 3),
        cpu_s=round(end.cpu_s - start.cpu_s, 3),
        peak_mb=round(max(*peaks_kib, ELSEWHERE.peak_kib) / 1024, 1),
        energy_j=energy.share(start.energy, end.energy, end.cpu_s - start.cpu_s),
    )


@contextmanager
def metered(ledger: Ledger, run: str, model: str, step: str) -> Iterator[None]:
    """Writes the start and the end of a step to the ledger, also when it raises."""
    ledger.append(StepStarted(), model, run, step)
    start = read_meter()
    state, error = "success", ""
    try:
        yield
    except BaseException as raised:
        state, error = "failed", str(raised)
        raise
    finally:
        ledger.append(StepEnded(state=state, error=error, **vars(usage_since(start))), model, run, step)
