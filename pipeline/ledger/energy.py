"""The energy that a step used, where the machine meters itself.

Linux shows the counters of Intel's and AMD's processors (RAPL, Running Average Power Limit) as files of microjoules, one for each
package; most machines let root alone read them, and virtual ones have none. A step gets the share of the machine's energy that it has
of the busy processor time:

    energy_j = joules * cpu_s / busy_s

as CodeCarbon and Scaphandre do. Memory, disks and the power supply's loss are in none of the counters.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class EnergyReading:
    """Microjoules so far by package, after how many each counter begins anew, and the machine's busy processor seconds."""

    microjoules: tuple[int, ...]
    ranges: tuple[int, ...]
    busy_s: float


def read(folder: Path = POWERCAP) -> EnergyReading | None:
    """None where there is no meter, or this user may not read it."""
    import psutil

    # intel-rapl:0 is a package; intel-rapl:0:1 is a part of it.
    packages = [path for path in sorted(folder.glob("intel-rapl:*")) if path.name.count(":") == 1]
    try:
        counters = tuple(int((path / "energy_uj").read_text()) for path in packages)
        ranges = tuple(int((path / "max_energy_range_uj").read_text()) for path in packages)
    except (OSError, ValueError):
        return None
    if not counters:
        return None
    times = psutil.cpu_times()
    return EnergyReading(counters, ranges, times.user + times.system)


def share(start: EnergyReading | None, end: EnergyReading | None, cpu_s: float) -> float | None:
    """Joules of a step that used `cpu_s` between the readings; None without both, or when the machine counted no busy time."""
    if start is None or end is None or len(start.microjoules) != len(end.microjoules) or end.busy_s <= start.busy_s:
        return None
    pairs = zip(start.microjoules, end.microjoules, end.ranges, strict=True)
    # A counter that begins anew is behind where it was.
    used = sum(now - before if now >= before else now - before + size for before, now, size in pairs)
    return round(used / 1e6 * min(1.0, cpu_s / (end.busy_s - start.busy_s)), 3)
