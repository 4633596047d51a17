"""Starts a process slot again when it dies, as Docker does with a container, and notes each death of either in the ledger.

A slot comes back when a route sends it traffic, as live or as predecessor: with the settings that it was started with, on its
port, so that the route stays as it is. One that was ended on purpose has no state file any more. A candidate stays dead, because
its rollout is watching it and must see that. One that dies again and again is tried after pauses that grow to a minute.
It also sets foreign files in routes/ aside, which would stop the router's routes.

Only deaths need the ledger and Docker's library. They are noted in a fork of this process, which stays small.

    python -m pipeline.services.slot_keeper
"""

from __future__ import annotations

import http.client
import logging
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from pipeline.errors import PerennialError, RolloutError
from pipeline.rollout.container_deaths import WAITING_DEATHS, ContainerWatch
from pipeline.rollout.engines.base import EngineSettings
from pipeline.rollout.engines.process import DeadSlot, ProcessEngine
from pipeline.rollout.routing import foreign_files, route_file
from pipeline.rollout.slot_deaths import Death, is_noted, note
from pipeline.settings import logs
from pipeline.settings.environment import Environment
from pipeline.settings.process_identity import ProcessIdentity

log = logging.getLogger("pipeline.services.slot_keeper")

TICK_S, DOCKER_S, NOTE_S = 0.5, 5.0, 10.0
PAUSE_S, LONGEST_PAUSE_S, EARLY_S = 0.5, 60.0, 10.0
EXIT_S = 1.0


@dataclass
class _Watched:
    """A slot: what was seen of it last, and when it may be started again. Times are monotonic seconds."""

    identity: ProcessIdentity | None = None
    since: float = 0.0
    peak_mb: int = 0
    child: subprocess.Popen[bytes] | None = None
    noted: ProcessIdentity | None = None
    early: int = 0
    start_at: float = 0.0


@dataclass
class SlotKeeper:
    """`look` is called again and again, for ever."""

    environment: Environment
    _watched: dict[tuple[str, str], _Watched] = field(default_factory=dict)
    _deaths: list[Death] = field(default_factory=list)
    _noting: tuple[int, int] | None = None
    _note_at: float = 0.0
    _docker_at: float = 0.0

    def __post_init__(self) -> None:
        settings = EngineSettings.of(self.environment)
        self._engine = ProcessEngine(settings)
        self._routes = foreign_files.Watch(self.environment.home)
        self._containers = ContainerWatch.of(self.environment)
        self._kills_for_memory = kills_for_memory()

    def look(self) -> None:
        self._routes.look()
        self._watch_living()
        kills, before = kills_for_memory(), self._kills_for_memory
        self._kills_for_memory = kills
        for dead in self._engine.dead():
            watched = self._watched.setdefault((dead.model, dead.slot), _Watched())
            if watched.noted != dead.identity:
                self._take_note(dead, watched, kills > before)
            if time.monotonic() >= watched.start_at and gets_traffic(self.environment.home, dead.model, dead.slot):
                self._revive(dead, watched)
        if time.monotonic() >= self._docker_at:
            self._look_at_containers()
        self._note_deaths()

    def _watch_living(self) -> None:
        for running in self._engine.all():
            watched = self._watched.setdefault((running.model, running.slot), _Watched())
            identity = self._engine.identity(running.model, running.slot)
            if identity is not None and watched.identity != identity:
                watched.identity, watched.since, watched.peak_mb = identity, time.monotonic(), 0
            if identity is not None:
                watched.peak_mb = max(watched.peak_mb, _memory_mb(identity.pid))

    def _take_note(self, dead: DeadSlot, watched: _Watched, killed_for_memory: bool) -> None:
        watched.noted = dead.identity
        lived_s = time.monotonic() - watched.since if watched.identity == dead.identity else 0.0
        watched.early = watched.early + 1 if lived_s < EARLY_S else 1
        pause = 0.0 if watched.early == 1 else min(LONGEST_PAUSE_S, PAUSE_S * 2 ** (watched.early - 1))
        watched.start_at = time.monotonic() + pause
        output = self._engine.output(dead.model, dead.slot)
        cause = _cause(dead.identity, watched, killed_for_memory, output)
        log.warning("%s %s: version %s died: %s; %s", dead.model, dead.slot, dead.version, cause, output or "no output")
        self._add(Death(dead.model, dead.slot, dead.version, ProcessEngine.name, cause, output, watched.early))

    def _revive(self, dead: DeadSlot, watched: _Watched) -> None:
        try:
            child = self._engine.revive(dead)
        except OSError as error:
            watched.start_at = time.monotonic() + PAUSE_S
            log.error("%s %s: cannot be started again (%s)", dead.model, dead.slot, error)
            return
        if child is not None:
            watched.child = child
            log.info("%s %s: started version %s again", dead.model, dead.slot, dead.version)

    def _look_at_containers(self) -> None:
        self._docker_at = time.monotonic() + DOCKER_S
        try:
            deaths = self._containers.look()
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            return  # no engine here, or one that restarts: the next look asks for the same time again
        for death in deaths:
            self._add(death)

    def _add(self, death: Death) -> None:
        if is_noted(death):
            self._deaths = [*self._deaths, death][-WAITING_DEATHS:]

    def _note_deaths(self) -> None:
        """Lets a fork write what waits to be noted; tries again later when it could not."""
        if self._noting is not None:
            pid, count = self._noting
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                return
            self._noting = None
            if status == 0:
                self._deaths = self._deaths[count:]
            else:
                self._note_at = time.monotonic() + NOTE_S
        if not self._deaths or time.monotonic() < self._note_at:
            return
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            self._noting = pid, len(self._deaths)
            return
        code = 1
        try:
            note(self.environment, self._deaths)
            code = 0
        except (PerennialError, OSError) as error:
            log.error("deaths of slots are not in the ledger yet: %s", error)
        finally:
            os._exit(code)


def gets_traffic(home: Path, model: str, slot: str) -> bool:
    """Whether the route names the slot as live or as predecessor; also True for a route that cannot be read: the router goes on
    with the last one that it could read."""
    try:
        route = route_file.read(home, model)
    except RolloutError:
        return True
    return route is not None and slot in [s.slot for s in (route.live, route.previous) if s is not None]


def kills_for_memory() -> int:
    """How many processes the kernel has killed for memory since the boot; 0 where it does not say."""
    try:
        counts = dict(line.split() for line in Path("/proc/vmstat").read_text(encoding="utf-8").splitlines())
        return int(counts.get("oom_kill", 0))
    except (OSError, ValueError):
        return 0


def _cause(identity: ProcessIdentity, watched: _Watched, killed_for_memory: bool, output: str) -> str:
    code = _exit_code(watched.child) if watched.child is not None and watched.child.pid == identity.pid else None
    seen = f", {watched.peak_mb} MB when last seen" if watched.identity == identity and watched.peak_mb else ""
    if not identity.is_local_boot():
        return "the machine was started anew"
    if killed_for_memory and code in (None, -9):
        return f"killed for memory by the kernel{seen}"
    if code is not None:
        return f"killed by signal {-code}{seen}" if code < 0 else f"ended with {code}{seen}"
    return f"ended, or was killed{seen}"


def _exit_code(child: subprocess.Popen[bytes]) -> int | None:
    """The exit code of a process that is ending: its leader is a zombie a moment before its last thread has ended."""
    try:
        return child.wait(EXIT_S)
    except subprocess.TimeoutExpired:
        return None


def _memory_mb(pid: int) -> int:
    """The memory of the process or of those that it forked, which share much of it: whichever is more."""
    try:
        process = psutil.Process(pid)
        forked = sum(p.memory_info().rss for p in process.children())
        return max(process.memory_info().rss, forked) // 2**20
    except psutil.Error:
        return 0


def main() -> None:
    """Looks at the slots until the process is ended: what one slot's files hold ends nothing."""
    logs.configure("service")
    keeper = SlotKeeper(Environment.read())
    while True:
        try:
            keeper.look()
        except Exception:
            # Nothing that one slot's files hold may end the keeper of all.
            log.exception("a look at the slots failed")
        time.sleep(TICK_S)


if __name__ == "__main__":
    main()
