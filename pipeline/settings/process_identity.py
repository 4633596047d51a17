"""Identifies a process by pid and start time, because pids are reused.

The start time is in clock ticks since boot, together with the id of the boot: no change of the clock moves it. psutil's
`create_time()` adds the time of day at boot (btime in /proc/stat), which moves whenever the clock is set: a running process
then looks like another one. psutil's own identity without btime is private and made for comparisons inside one program.
Where /proc is missing, the start time is in seconds since 1970.

Three places record identities: slots/MODEL-SLOT.json ("born", `stamp`), services.pid ("started", `stamp`; seconds since 1970
in files of earlier versions), and the holder of a lease (`describe`).
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

PROC = Path("/proc")
DEAD_STATES = ("Z", "X")
# Seconds by which two readings of one start time of day may differ.
TIME_OF_DAY_TOLERANCE_S = 1.0
ELSEWHERE = "elsewhere"
DESCRIPTION = re.compile(r"process (?P<pid>\d+) from (?P<started>\S+) on \S+ \((?P<machine>.*)\)")


@dataclass(frozen=True)
class ProcessIdentity:
    """A process: `started` in clock ticks since the boot with the id `boot`, or in seconds since 1970 ("1700000000.25").

    `namespace` is the PID namespace in which `pid` counts, '' where it was not recorded.
    """

    pid: int
    started: str
    boot: str = ""
    namespace: str = ""

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """The process that has this pid now; None when it has ended, also while its parent has not waited for it (a zombie)."""
        if not (PROC / "self" / "stat").is_file():
            started = _started_by_time_of_day(pid)
            return None if started is None else cls(pid, started)
        try:
            # The name, in parentheses, may hold anything. After it: state is the first field, the start time the twentieth.
            fields = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in DEAD_STATES else cls(pid, fields[19], _boot(), _namespace())

    @classmethod
    def recorded(cls, pid: int, stamp: str | float) -> ProcessIdentity:
        """The identity from a file that holds the pid and the `stamp`, or seconds since 1970 as a number."""
        started, _, boot = (f"{stamp:.2f}" if isinstance(stamp, int | float) else stamp).partition("@")
        return cls(pid, started, boot)

    @classmethod
    def parse(cls, description: str) -> ProcessIdentity | None:
        """The identity from a text that `describe` wrote; None when it is another text."""
        match = DESCRIPTION.fullmatch(description)
        if match is None:
            return None
        machine = "" if match["machine"] == ELSEWHERE else match["machine"]
        boot, _, namespace = machine.partition(" ")
        return cls(int(match["pid"]), match["started"], boot, namespace)

    @property
    def stamp(self) -> str:
        """The start time for a file: TICKS@BOOT, or seconds since 1970."""
        return self.started if self._has_time_of_day else f"{self.started}@{self.boot}"

    def describe(self) -> str:
        """The process with its host, for people and for `parse`."""
        machine = f"{self.boot} {self.namespace}" if self.boot else ELSEWHERE
        return f"process {self.pid} from {self.started} on {socket.gethostname()} ({machine})"

    def is_running(self) -> bool:
        """Whether the process with this pid on this machine is still this one, and no zombie."""
        current = ProcessIdentity.of(self.pid)
        if current is None:
            return False
        if self._has_time_of_day:
            started = _started_by_time_of_day(self.pid)
            return started is not None and abs(float(started) - float(self.started)) < TIME_OF_DAY_TOLERANCE_S
        return (current.started, current.boot) == (self.started, self.boot)

    def is_local_boot(self) -> bool:
        """Whether the process was started since this machine's last boot, as far as that was recorded."""
        return not self.boot or self.boot == _boot()

    def is_local(self) -> bool:
        """Whether `pid` counts in this process's own boot and PID namespace, so that `is_running` can answer here."""
        return bool(self.boot) and (self.boot, self.namespace) == (_boot(), _namespace())

    @property
    def _has_time_of_day(self) -> bool:
        return "." in self.started


def this_process() -> ProcessIdentity:
    """The identity of the process that asks."""
    identity = ProcessIdentity.of(os.getpid())
    assert identity is not None, "a process that runs has an identity"
    return identity


def _boot() -> str:
    """The id of this boot of this machine; '' where the kernel does not give one."""
    file = PROC / "sys" / "kernel" / "random" / "boot_id"
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def _namespace() -> str:
    """This process's PID namespace, for example pid:[4026531836]: a container has its own. '' where it cannot be read."""
    try:
        return str((PROC / "self" / "ns" / "pid").readlink())
    except OSError:
        return ""


def _started_by_time_of_day(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None
