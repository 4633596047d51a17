"""Knows which processes belong to this home, so that exactly these are ended, or taken over.

The supervisor gives each service a session of its own. `services.pid` records the supervisor and the leaders of these sessions,
so that a service is found even after the supervisor was killed and the service has overwritten its environment (Airflow does, to
show a title). A slot is found by the mark in its environment.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from pipeline.rollout.engines.process import OWNER, SLOT
from pipeline.settings.process_identity import ProcessIdentity

# The mark of a service: its name in the Procfile.
SERVICE = "PERENNIAL_SERVICE"
# From so many early ends in a row on, a service counts as one that cannot stay up.
LIMIT = 5


@dataclass(frozen=True)
class ServiceRecord:
    """A service: the leader of its session (None while it does not run), the digest of its command, how often in a row it ended
    soon after its start, since when (UTC, ISO 8601), the exit code of the last time, and the last line of the log before that."""

    leader: ProcessIdentity | None
    digest: str = ""
    early_ends: int = 0
    code: int | None = None
    since: str = ""
    last_line: str = ""

    @property
    def is_down(self) -> bool:
        """Whether it cannot stay up; it is still tried again from time to time."""
        return self.early_ends >= LIMIT


@dataclass(frozen=True)
class Record:
    """What `services.pid` holds: the supervisor, the home that its services work for, and the services by name."""

    supervisor: ProcessIdentity
    home: str = ""
    services: Mapping[str, ServiceRecord] = field(default_factory=dict)

    @property
    def leaders(self) -> list[ProcessIdentity]:
        return [service.leader for service in self.services.values() if service.leader is not None]


def write(home: Path, record: Record) -> None:
    """Replaces the record. Raises OSError."""
    services = {
        name: {
            "pid": service.leader.pid if service.leader else None,
            "started": service.leader.stamp if service.leader else None,
            "digest": service.digest,
            "early_ends": service.early_ends,
            "code": service.code,
            "since": service.since,
            "last_line": service.last_line,
        }
        for name, service in record.services.items()
    }
    supervisor = {"pid": record.supervisor.pid, "started": record.supervisor.stamp}
    aside = _file(home).with_suffix(".part")
    aside.write_text(json.dumps({**supervisor, "home": record.home, "services": services}, indent=1), encoding="utf-8")
    aside.replace(_file(home))


def read(home: Path) -> Record | None:
    """The record; None when there is none, a torn one, or one that was copied here with another home's folder."""
    try:
        state = json.loads(_file(home).read_text(encoding="utf-8"))
        supervisor = ProcessIdentity.recorded(state["pid"], state["started"])
        services = {name: _service(service) for name, service in state.get("services", {}).items()}
        # Earlier versions wrote the leaders' start times by pid, without names.
        for pid, started in state.get("sessions", {}).items():
            services[f"session {pid}"] = ServiceRecord(ProcessIdentity.recorded(int(pid), started))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    recorded = state.get("home", "")
    if recorded not in ("", str(home)) and _file(Path(recorded)).is_file():
        return None
    return Record(supervisor, recorded, services)


def _service(state: Mapping) -> ServiceRecord:
    leader = ProcessIdentity.recorded(state["pid"], state["started"]) if state["pid"] is not None else None
    told = state.get("since", ""), state.get("last_line", "")
    return ServiceRecord(leader, state["digest"], state["early_ends"], state["code"], *told)


def trouble(home: Path) -> list[str]:
    """One line for each service that cannot stay up, and one when nobody keeps those that run; none where no service was started."""
    record = read(home)
    if record is None or record.home not in ("", str(home)):
        return []
    log, lines = home / "services.log", []
    for name, service in sorted(record.services.items()):
        if service.is_down:
            ended = "an unknown code" if service.code is None else service.code
            last = f"; the last line of {log} before that: {service.last_line}" if service.last_line else ""
            since = f" since {service.since}" if service.since else ""
            seen = f"is down{since}, it ended with {ended} {service.early_ends} times in a row{last}"
            lines.append(f"service {name}: {seen}; mend that, then `make up` tries it at once")
    if not record.supervisor.is_running():
        lines.append(
            f"services: their supervisor ended, and none that dies comes back; `make up` starts it; read {log}"
        )
    return lines


def forget(home: Path) -> None:
    """Removes the record, when all of its processes have ended."""
    _file(home).unlink(missing_ok=True)


def supervisor(home: Path) -> psutil.Process | None:
    """The recorded supervisor, when it still runs."""
    recorded = read(home)
    if recorded is None or not recorded.supervisor.is_running():
        return None
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(recorded.supervisor.pid)
    return None


def family(home: Path) -> list[psutil.Process]:
    """Every running process of this home: the supervisor and its descendants, the services' sessions, marked ones."""
    recorded, parent = read(home), supervisor(home)
    members = {p.pid: p for p in ([parent, *parent.children(recursive=True)] if parent else [])}
    sessions = {leader.pid for leader in recorded.leaders if not _reused(leader)} if recorded else set()
    for process in psutil.process_iter():
        if process.pid != os.getpid() and (
            _session(process.pid) in sessions or _marks(process).get(OWNER) == str(home)
        ):
            members.setdefault(process.pid, process)
    return list(members.values())


def is_slot(process: psutil.Process) -> bool:
    """Whether the process serves a slot, which its engine ends."""
    return SLOT in _marks(process)


def service_sessions(home: Path) -> list[ProcessIdentity]:
    """The leaders of all sessions in which a service of this home runs, recorded or not; a leader may have ended."""
    recorded = read(home)
    found = {leader.pid: leader for leader in (recorded.leaders if recorded else []) if session_of(leader)}
    for process in psutil.process_iter():
        marks, session = _marks(process), _session(process.pid)
        if marks.get(OWNER) == str(home) and SERVICE in marks and SLOT not in marks and session == process.pid:
            leader = ProcessIdentity.of(process.pid)
            if leader is not None:
                found.setdefault(process.pid, leader)
    return list(found.values())


def session_of(leader: ProcessIdentity | None) -> list[int]:
    """The pids of the processes of the leader's session, the leader's own first; without zombies."""
    if leader is None or _reused(leader):
        return []
    members = [pid for pid in psutil.pids() if pid == leader.pid or _session(pid) == leader.pid]
    return sorted((pid for pid in members if ProcessIdentity.of(pid) is not None), key=lambda pid: pid != leader.pid)


def _reused(leader: ProcessIdentity) -> bool:
    """Whether another process has the leader's pid. The kernel reuses it only after the last process of its session ended."""
    return ProcessIdentity.of(leader.pid) is not None and not leader.is_running()


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _marks(process: psutil.Process) -> Mapping[str, str]:
    """The environment of the process; empty when it may not be read."""
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def _file(home: Path) -> Path:
    return home / "services.pid"
