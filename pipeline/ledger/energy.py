"""The energy that a step used, where the machine meters itself.

Linux shows the counters of Intel's and AMD's processors (RAPL, Running Average Power Limit); most machines let root alone read them, and
virtual ones have none. CodeCarbon reads them: it knows which of a machine's counters are packages, and which show the same one again. A
step gets the share of the machine's energy that it has of the busy processor time:

    energy_j = joules * cpu_s / busy_s

Memory, disks and the power supply's loss are in none of the counters.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codecarbon.core.cpu import IntelRAPL

POWERCAP = Path("/sys/class/powercap")
# A counter begins anew after 44 minutes at 100 W, and much sooner on large machines; CodeCarbon's own tracker looks as often.
EVERY_S = 15.0
JOULES_A_KWH = 3.6e6


@dataclass(frozen=True)
class EnergyReading:
    """Joules of the machine's processors since this process first asked, and the machine's busy processor seconds."""

    joules: float
    busy_s: float


class Meter:
    """Adds up what the counters have counted, also while nobody reads."""

    def __init__(self, counters: IntelRAPL) -> None:
        self._counters, self._joules, self._at = counters, 0.0, time.monotonic()
        self._lock = threading.Lock()
        counters.start()
        threading.Thread(target=self._keep_reading, name="energy", daemon=True).start()

    def joules(self) -> float:
        from codecarbon.core.units import Time

        with self._lock:
            now = time.monotonic()
            # It divides by the time, for the power, which is not asked here.
            counted = self._counters.get_cpu_details(Time.from_seconds(max(now - self._at, 1e-3)))
            self._at = now
            self._joules += JOULES_A_KWH * sum(kwh for name, kwh in counted.items() if "Energy" in name)
            return self._joules

    def _keep_reading(self) -> None:
        while True:
            time.sleep(EVERY_S)
            self.joules()


def read(folder: Path = POWERCAP) -> EnergyReading | None:
    """None where there is no meter, or this user may not read it."""
    if (meter := _meter(folder, os.getpid())) is None:
        return None
    import psutil

    times = psutil.cpu_times()
    return EnergyReading(meter.joules(), times.user + times.system)


def share(start: EnergyReading | None, end: EnergyReading | None, cpu_s: float) -> float | None:
    """Joules of a step that used `cpu_s` between the readings; None without both, or when the machine counted no busy time."""
    if start is None or end is None or end.busy_s <= start.busy_s:
        return None
    return round((end.joules - start.joules) * min(1.0, cpu_s / (end.busy_s - start.busy_s)), 3)


@functools.cache
def _meter(folder: Path, process: int) -> Meter | None:
    """One a process: a forked one has no threads of its parent's."""
    if not any(os.access(path, os.R_OK) for path in folder.glob("intel-rapl:*/energy_uj")):
        return None
    from codecarbon.core.cpu import IntelRAPL
    from codecarbon.core.units import Time

    logging.getLogger("codecarbon").setLevel(logging.ERROR)
    counters = IntelRAPL(rapl_dir=str(folder / "intel-rapl" / "subsystem"))
    return Meter(counters) if counters.get_cpu_details(Time.from_seconds(1)) else None
