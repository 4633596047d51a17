"""Runs the services of a Procfile, each in a session of its own, and starts each again when it ends.

No service depends on another here: one that cannot stay up is tried again after a pause that grows to a minute, for ever, and
the others go on. Nothing depends on the supervisor either: when it is killed its services run on, and the next supervisor takes
them over (services.pid says which they are). It writes nothing that it could wait for, and a full disk costs it lines of the log.

    python -m pipeline.services.supervisor HOME PROCFILE
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.services import processes
from pipeline.services.log_rotation import Rotation
from pipeline.services.processes import LIMIT, Record, ServiceRecord
from pipeline.settings import logs
from pipeline.settings.process_identity import ProcessIdentity, this_process

log = logging.getLogger("pipeline.services.supervisor")

# The first pause, which doubles up to the longest while the service ends within EARLY_S of its start.
PAUSE_S, LONGEST_PAUSE_S, EARLY_S = 0.5, 60.0, 10.0
TICK_S = 0.5
# What is left of a service, after its leader, gets so long to end by itself.
LEFTOVERS_S = 5.0
STOP_S = 15.0
TAIL_BYTES, LINE_LENGTH = 4096, 200
# The supervisor's own words about a service.
OWN_LINE = re.compile(r"; starting it again$|; the next try is in [\d.]+ s$|runs already, as process \d+$")
# The line of the Procfile that ends by itself; those below it start when it has ended with 0.
ONCE = "databases"


@dataclass
class Kept:
    """A service: its command, what runs of it, and when it may start again. Times are monotonic seconds."""

    name: str
    command: str
    digest: str
    leader: ProcessIdentity | None = None
    child: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    early_ends: int = 0
    code: int | None = None
    since: str = ""
    last_line: str = ""
    # The length of the log when it was started last, in bytes.
    log_at: int = 0
    start_at: float = 0.0
    # The session of an earlier run whose members must end first, and when they are killed.
    leftover: ProcessIdentity | None = None
    kill_at: float = 0.0
    done: bool = False

    def is_running(self) -> bool:
        if self.child is not None:
            return self.child.poll() is None
        return self.leader is not None and self.leader.is_running()


def read_procfile(path: Path) -> dict[str, str]:
    """The shell commands of a Procfile by name, in its order."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip() and line[0] != "#"]
    pairs = [line.partition(":") for line in lines]
    return {name.strip(): command.strip() for name, _, command in pairs}


class Supervisor:
    """Keeps the services `commands` of `home` running until SIGTERM or SIGINT. SIGUSR1 ends all pauses."""

    def __init__(self, home: Path, commands: dict[str, str]) -> None:
        self._home = home
        self._services = [Kept(name, command, _digest(command)) for name, command in commands.items()]
        self._stopped = False
        self._saved: Record | None = None

    def run(self) -> None:
        """Returns after a signal, when all services have ended."""
        woken = _wake_by_signals()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGUSR1, self._end_pauses)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        strays = self._take_over()
        rotation = Rotation(self._home, Path.cwd())
        while not self._stopped:
            if not (strays := _end_leftovers(strays)):
                for service in self._services:
                    self._keep(service)
            if rotation.due():
                for service in self._services:
                    service.log_at = 0
            self._save()
            _wait(woken, TICK_S)
        self._end_all(woken)

    def _take_over(self) -> list[Kept]:
        """Adopts what runs of an earlier supervisor; returns what must end because it is not the same any more."""
        record = processes.read(self._home)
        adopted = set()
        for service in self._services:
            before = record.services.get(service.name) if record and record.home == str(self._home) else None
            leader = before.leader if before and before.digest == service.digest else None
            if leader is not None and leader.is_running():
                service.leader, service.started = leader, time.monotonic()
                adopted.add(leader.pid)
                log.info("%s runs already, as process %d", service.name, leader.pid)
        others = [leader for leader in processes.service_sessions(self._home) if leader.pid not in adopted]
        kill_at = time.monotonic() + LEFTOVERS_S
        strays = [Kept("", "", "", leftover=leader, kill_at=kill_at) for leader in others]
        for stray in strays:
            _signal_session(stray.leftover, signal.SIGTERM)
        return strays

    def _keep(self, service: Kept) -> None:
        """Starts the service when it does not run and may start."""
        if self._stopped or service.done or service.is_running():
            return
        # A command that ended before its identity could be read has a child and no leader.
        if service.leader is not None or service.child is not None:
            self._note_end(service)
        if service.done or not self._may_start(service) or _end_leftovers([service]):
            return
        service.log_at = _size(self._home / "services.log")
        try:
            child = subprocess.Popen(
                ["/bin/sh", "-c", service.command],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=os.environ | {processes.SERVICE: service.name},
            )
        except OSError as error:
            self._pause(service, f"cannot be started ({error})", early=True)
            return
        service.child, service.leader, service.started = child, ProcessIdentity.of(child.pid), time.monotonic()

    def _may_start(self, service: Kept) -> bool:
        """Whether its pause is over and what must be done before it is done."""
        before = self._services[: self._services.index(service)]
        return time.monotonic() >= service.start_at and all(s.done for s in before if s.name == ONCE)

    def _note_end(self, service: Kept) -> None:
        service.code = service.child.returncode if service.child is not None else None
        service.leftover, service.kill_at = service.leader, time.monotonic() + LEFTOVERS_S
        service.child = service.leader = None
        _signal_session(service.leftover, signal.SIGTERM)
        if service.name == ONCE and service.code == 0:
            service.done = True
        else:
            early = time.monotonic() - service.started < EARLY_S
            self._pause(service, f"ended with {'an unknown code' if service.code is None else service.code}", early)

    def _pause(self, service: Kept, why: str, early: bool) -> None:
        service.early_ends = service.early_ends + 1 if early else 0
        service.last_line = _last_line(self._home / "services.log", service.log_at)
        if service.early_ends <= 1:
            service.since = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        pause = min(LONGEST_PAUSE_S, PAUSE_S * 2 ** max(0, service.early_ends - 1))
        service.start_at = time.monotonic() + pause
        if service.early_ends < LIMIT:
            log.warning("%s %s; starting it again", service.name, why)
        else:
            times = service.early_ends
            log.error("%s is down: %s, %d times in a row; the next try is in %g s", service.name, why, times, pause)

    def _save(self) -> None:
        """Writes services.pid when it would change. On a full disk the next tick tries again."""
        services = {
            s.name: ServiceRecord(s.leader, s.digest, s.early_ends, s.code, s.since, s.last_line)
            for s in self._services
            if s.leader is not None or s.early_ends
        }
        record = Record(this_process(), str(self._home), services)
        if record != self._saved:
            with contextlib.suppress(OSError):
                processes.write(self._home, record)
                self._saved = record

    def _end_all(self, woken: int) -> None:
        """Ends every service, and those that do not end within STOP_S by SIGKILL."""
        running = [s.leader or s.leftover for s in self._services]
        until = time.monotonic() + STOP_S
        for leader in running:
            if leader is not None:
                _signal_session(leader, signal.SIGTERM, leader_only=leader.is_running())
        while any(map(processes.session_of, running)) and time.monotonic() < until:
            for service in self._services:
                service.is_running()  # waits for a child that has ended, so that it is no zombie
            _wait(woken, 0.05)
        for leader in running:
            _signal_session(leader, signal.SIGKILL)

    def _stop(self, *_: object) -> None:
        self._stopped = True

    def _end_pauses(self, *_: object) -> None:
        for service in self._services:
            service.start_at = 0.0


def _end_leftovers(services: list[Kept]) -> list[Kept]:
    """Those of which a process still runs that their leader left behind; it is killed once its time is over."""
    for service in services:
        if service.leftover is None:
            continue
        if not processes.session_of(service.leftover):
            service.leftover = None
        elif time.monotonic() > service.kill_at:
            _signal_session(service.leftover, signal.SIGKILL)
    return [service for service in services if service.leftover is not None]


def _signal_session(leader: ProcessIdentity | None, number: signal.Signals, *, leader_only: bool = False) -> None:
    for pid in processes.session_of(leader):
        if not leader_only or leader is None or pid == leader.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _last_line(log: Path, start: int) -> str:
    """What was written last since `start`, most likely by the service that has just ended; '' for a log that cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    others = [line for line in lines if not OWN_LINE.search(line)]
    return others[-1].strip()[-LINE_LENGTH:] if others else ""


def _size(log: Path) -> int:
    try:
        return log.stat().st_size
    except OSError:
        return 0


def _digest(command: str) -> str:
    """Changes with the command, its variables and the ports, so that a service of other settings is not taken over."""
    ports = sorted(f"{k}={v}" for k, v in os.environ.items() if k.startswith("PERENNIAL_") and k.endswith("_PORT"))
    return hashlib.sha256("\n".join([os.path.expandvars(command), *ports]).encode()).hexdigest()[:16]


def _wake_by_signals() -> int:
    """A descriptor that becomes readable when a signal comes."""
    reader, writer = os.pipe()
    for end in (reader, writer):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader


def _wait(woken: int, seconds: float) -> None:
    if select.select([woken], [], [], seconds)[0]:
        with contextlib.suppress(BlockingIOError):
            os.read(woken, 4096)


def main(arguments: list[str]) -> int:
    """`arguments` are PERENNIAL_HOME and the Procfile. Returns the exit code once all its processes have ended."""
    logs.configure("service")
    home, procfile = map(Path, arguments)
    Supervisor(home, read_procfile(procfile)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
