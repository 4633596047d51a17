"""Which process is it? Its number is given to another one later; with the moment of its birth it is its own.

The moment is told by a clock that nobody sets: ticks since this machine's boot, and which boot. A time of day would make a
living process look like another one after the clock was stepped, and another one like a dead one.
"""

from __future__ import annotations

from pathlib import Path

import psutil

PROC = Path("/proc")
ZOMBIES = ("Z", "X")


def born(pid: int) -> str | None:
    """When the process was born; None when it has ended, also when its parent has not asked about it yet."""
    if not (PROC / "self" / "stat").is_file():
        return _born_by_the_time_of_day(pid)
    try:
        # The name, in parentheses, may hold anything. After it: state is the first field, the start time the twentieth.
        fields = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ZOMBIES else f"{fields[19]}@{boot()}"


def boot() -> str:
    """This boot of this machine, '' where nobody tells."""
    told = PROC / "sys" / "kernel" / "random" / "boot_id"
    return told.read_text(encoding="utf-8").strip() if told.is_file() else ""


def _born_by_the_time_of_day(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None
