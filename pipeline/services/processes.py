"""Which processes are this home's own, so that exactly they are ended.

The supervisor (honcho) gives each service a session of its own. Those sessions are written down with the
supervisor, so that a service is found even when the supervisor was killed and the service has overwritten its
environment (Airflow does, to show a title). A slot is known by the mark in its environment.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import psutil

from pipeline.rollout.engines.process import OWNER

SERVICES_START_S = 5.0


def record(home: Path, pid: int, services: int) -> None:
    """Writes down the supervisor `pid` and the sessions of its `services` commands."""
    supervisor = psutil.Process(pid)
    until = time.monotonic() + SERVICES_START_S
    while len(sessions := _sessions_below(supervisor)) < services and time.monotonic() < until:
        time.sleep(0.05)
    told = {"pid": pid, "started": supervisor.create_time(), "sessions": sessions}
    _file(home).write_text(json.dumps(told), encoding="utf-8")


def forget(home: Path) -> None:
    _file(home).unlink(missing_ok=True)


def supervisor(home: Path) -> psutil.Process | None:
    """The supervisor that `record` was told of, when it still runs."""
    told = _told(home)
    return _same(told["pid"], told["started"]) if told else None


def family(home: Path) -> list[psutil.Process]:
    """Every process of this home that runs: the supervisor and all below it, its services' sessions, marked ones."""
    told = _told(home) or {"sessions": {}}
    leader = supervisor(home)
    found = {p.pid: p for p in ([leader, *leader.children(recursive=True)] if leader else [])}
    # A session's number is not given to another while the session lives; a leader of another age means it has ended.
    ours = {
        int(s) for s, started in told["sessions"].items() if not psutil.pid_exists(int(s)) or _same(int(s), started)
    }
    for process in psutil.process_iter():
        if process.pid != os.getpid() and (_session(process.pid) in ours or _owner(process) == str(home)):
            found.setdefault(process.pid, process)
    return list(found.values())


def _sessions_below(process: psutil.Process) -> dict[str, float]:
    """Session number to start time of its leader, for every session led by a descendant."""
    below = process.children(recursive=True)
    return {str(p.pid): p.create_time() for p in below if _session(p.pid) == p.pid}


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _owner(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(OWNER)
    except psutil.Error:
        return None


def _same(pid: int, started: float) -> psutil.Process | None:
    """The process `pid` when it is the one that started then and is no zombie."""
    try:
        process = psutil.Process(pid)
        alive = process.status() != psutil.STATUS_ZOMBIE
        return process if alive and abs(process.create_time() - started) < 1 else None
    except psutil.NoSuchProcess:
        return None


def _told(home: Path) -> dict | None:
    try:
        return json.loads(_file(home).read_text(encoding="utf-8"))
    except OSError:
        return None


def _file(home: Path) -> Path:
    return home / "services.pid"
