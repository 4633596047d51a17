"""Knows which processes belong to this home, so that exactly these are ended.

honcho, the supervisor, gives each service a session of its own. `services.pid` records the supervisor and the leaders of
these sessions, so that a service is found even after the supervisor was killed and the service has overwritten its
environment (Airflow does, to show a title). A slot is found by the mark in its environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.rollout.engines.process import OWNER
from pipeline.settings.process_identity import ProcessIdentity

SERVICES_START_S = 5.0


@dataclass(frozen=True)
class _Record:
    """What `services.pid` holds: the supervisor, and the leader of each service's session."""

    supervisor: ProcessIdentity
    leaders: tuple[ProcessIdentity, ...]


def record(home: Path, pid: int, services: int) -> None:
    """Writes down the supervisor `pid` and the sessions of its `services` commands.

    Raises psutil.NoSuchProcess when the supervisor has ended already.
    """
    supervisor = ProcessIdentity.of(pid)
    if supervisor is None:
        raise psutil.NoSuchProcess(pid)
    until = time.monotonic() + SERVICES_START_S
    while len(leaders := _session_leaders(pid)) < services and time.monotonic() < until:
        time.sleep(0.05)
    sessions = {str(leader.pid): leader.stamp for leader in leaders}
    state = {"pid": pid, "started": supervisor.stamp, "sessions": sessions}
    _file(home).write_text(json.dumps(state), encoding="utf-8")


def forget(home: Path) -> None:
    """Removes the record, when all of its processes have ended."""
    _file(home).unlink(missing_ok=True)


def supervisor(home: Path) -> psutil.Process | None:
    """The recorded supervisor, when it still runs."""
    recorded = _read(home)
    if recorded is None or not recorded.supervisor.is_running():
        return None
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(recorded.supervisor.pid)
    return None


def family(home: Path) -> list[psutil.Process]:
    """Every running process of this home: the supervisor and its descendants, the services' sessions, marked ones."""
    recorded, parent = _read(home), supervisor(home)
    members = {p.pid: p for p in ([parent, *parent.children(recursive=True)] if parent else [])}
    sessions = {leader.pid for leader in recorded.leaders if not _reused(leader)} if recorded else set()
    for process in psutil.process_iter():
        if process.pid != os.getpid() and (_session(process.pid) in sessions or _owner(process) == str(home)):
            members.setdefault(process.pid, process)
    return list(members.values())


def _reused(leader: ProcessIdentity) -> bool:
    """Whether another process has the leader's pid. The kernel reuses it only after the last process of its session ended."""
    return ProcessIdentity.of(leader.pid) is not None and not leader.is_running()


def _session_leaders(pid: int) -> list[ProcessIdentity]:
    """The descendants of `pid` that lead a session."""
    below = psutil.Process(pid).children(recursive=True)
    leaders = [ProcessIdentity.of(p.pid) for p in below if _session(p.pid) == p.pid]
    return [leader for leader in leaders if leader is not None]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _owner(process: psutil.Process) -> str | None:
    """The home that the mark in the process's environment names."""
    try:
        return process.environ().get(OWNER)
    except psutil.Error:
        return None


def _read(home: Path) -> _Record | None:
    try:
        state = json.loads(_file(home).read_text(encoding="utf-8"))
    except OSError:
        return None
    leaders = (ProcessIdentity.recorded(int(pid), started) for pid, started in state["sessions"].items())
    return _Record(ProcessIdentity.recorded(state["pid"], state["started"]), tuple(leaders))


def _file(home: Path) -> Path:
    return home / "services.pid"
