"""Slots as local processes: the same server that goes into the image, in this Python.

`slots/MODEL-SLOT.json` records each process with its identity, so that a process that merely got the same pid is never taken
for it, nor ended. A first version of the file is written before the start, without an identity: when the starter is killed
in between, or the file is torn, the process is found by the marks in its environment.

The file also holds how the server was started, with paths below the home as relative ones, so that `revive` starts one that died
with exactly the same settings on the same port. A lock for each slot keeps starts, ends and revivals apart.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from pipeline.errors import RolloutError
from pipeline.gates.image_system import ImageSystem
from pipeline.rollout import failpoints
from pipeline.rollout.engines import serving_recipe, slot_settings
from pipeline.rollout.engines.base import EngineSettings, Running, SlotSpec, cut_off
from pipeline.serving.settings import VARIABLE
from pipeline.settings.net import free_port
from pipeline.settings.process_identity import ProcessIdentity

# What a server has beyond its drain time to write its log and end.
GRACE_S = 5.0
# Every process of a home carries this in its environment, so that `make down` finds one that lost its parent.
OWNER = "PERENNIAL_SERVICE_OF"
SLOT = "PERENNIAL_SLOT"


@dataclass(frozen=True)
class DeadSlot:
    """A slot whose process ended though nobody ended it."""

    model: str
    slot: str
    version: str
    identity: ProcessIdentity


@dataclass(frozen=True)
class _Server:
    """A slot's process, the version that it serves, and its address (a URL)."""

    identity: ProcessIdentity
    version: str
    address: str


class ProcessEngine:
    """Runs a slot as a process on a free port of the loopback address; a file below `home`/slots tells every other
    process which one it is."""

    name = "process"

    def __init__(self, settings: EngineSettings) -> None:
        self._home, self._project = settings.home, settings.project
        self._folder = self._home / "slots"

    def start(self, spec: SlotSpec) -> Running:
        model, slot, version = spec.model, spec.slot, spec.version
        with self._locked(model, slot):
            if self.find(model, slot) is not None:
                raise RolloutError(f"slot {model} {slot}", "is taken", "stop it first")
            port = free_port()
            options = {
                "--package": self._from_home(spec.package),
                "--version": version,
                "--slot": slot,
                "--port": str(port),
                "--log": self._from_home(spec.log),
                "--drain": str(spec.drain_s),
            }
            address = f"http://127.0.0.1:{port}"
            state = {"version": version, "address": address, "options": options}
            self._write(model, slot, state)
            slot_settings.write(slot_settings.path_of(self._home, self.name, model, slot), spec.serving)
            self._launch(model, slot, state)
        return Running(model, slot, version, address, self.name)

    def _launch(self, model: str, slot: str, state: dict[str, Any]) -> subprocess.Popen[bytes]:
        """Starts the server that `state` describes, and writes down its identity. Raises OSError; no server runs then."""
        options = dict(state["options"])
        for name in ("--package", "--log"):
            options[name] = str(self._home / options[name])
        command = [sys.executable, "-m", "pipeline.serving", *(part for pair in options.items() for part in pair)]
        settings_file = slot_settings.path_of(self._home, self.name, model, slot)
        environment = {**_server_environment(self._home), SLOT: f"{model}-{slot}", VARIABLE: str(settings_file)}
        with self._output_file(model, slot).open("wb") as output, failpoints.around("start process"):
            process = subprocess.Popen(
                command,
                cwd=self._project,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=environment,
            )
        identity = ProcessIdentity.of(process.pid)
        try:
            self._write(model, slot, state | {"pid": process.pid, "born": identity.stamp if identity else None})
        except OSError:
            # A server that nobody knows of would hold the port for ever.
            process.kill()
            process.wait()
            raise
        return process

    def revive(self, dead: DeadSlot) -> subprocess.Popen[bytes] | None:
        """Starts the server of a dead slot again, as it was started; None when the slot has been ended or started since, or is
        being worked on. Raises OSError, for example on a full disk."""
        try:
            with self._locked(dead.model, dead.slot, wait=False):
                if dead not in self.dead():
                    return None
                return self._launch(dead.model, dead.slot, self._state(dead.model, dead.slot))
        except Timeout:
            return None

    def dead(self) -> list[DeadSlot]:
        """The slots whose process ended though nobody ended it, and that can be revived."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            model, _, slot = path.stem.rpartition("-")
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                state = self._state(model, slot)
                if "options" in state and state.get("born") is not None:
                    identity = ProcessIdentity.recorded(state["pid"], state["born"])
                    if not identity.is_running():
                        found.append(DeadSlot(model, slot, state["version"], identity))
        return found

    def identity(self, model: str, slot: str) -> ProcessIdentity | None:
        """The process that serves the slot; None when none does."""
        server = self._server_of(model, slot)
        return server.identity if server else None

    def find(self, model: str, slot: str) -> Running | None:
        server = self._server_of(model, slot)
        return Running(model, slot, server.version, server.address, self.name) if server else None

    def stop(self, model: str, slot: str, drain_s: float) -> int | None:
        with self._locked(model, slot):
            server = self._server_of(model, slot)
            if server is not None:
                _signal(server.identity, signal.SIGTERM)
                if not _ended(server.identity, drain_s + GRACE_S):
                    _signal(server.identity, signal.SIGKILL)
                    _ended(server.identity, GRACE_S)
            self._state_file(model, slot).unlink(missing_ok=True)
            slot_settings.path_of(self._home, self.name, model, slot).unlink(missing_ok=True)
        return cut_off(self.output(model, slot)) if server is not None else 0

    def output(self, model: str, slot: str) -> str:
        path = self._output_file(model, slot)
        return " | ".join(path.read_text(errors="replace").strip().splitlines()[-3:]) if path.is_file() else ""

    def all(self) -> list[Running]:
        names = [path.stem.rpartition("-") for path in sorted(self._folder.glob("*.json"))]
        found = [self.find(model, slot) for model, _, slot in names]
        return [running for running in found if running is not None]

    def has_image(self, runtime: str, digest: str) -> bool:
        """Only for what this code makes: it is what a process runs."""
        return digest == serving_recipe.image_digest(EngineSettings(self._home, self._project), runtime)

    def contents(self, model: str, slot: str) -> ImageSystem | None:
        """None: a process has no image but the machine."""

    def system(self, runtime: str) -> ImageSystem | None:
        """None, as for a slot."""

    def prune(self, model: str, keep: set[str]) -> None:
        """Nothing: a process starts from the package itself."""

    def clean_up(self) -> None:
        """Nothing: processes share the machine's network."""

    def _server_of(self, model: str, slot: str) -> _Server | None:
        """The running process that serves the slot; None when none does."""
        try:
            state = self._state(model, slot)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            state = {}
        if not isinstance(state, dict) or "born" not in state:
            return self._marked(f"{model}-{slot}")
        if state["born"] is None:
            return None
        server = _Server(ProcessIdentity.recorded(state["pid"], state["born"]), state["version"], state["address"])
        return server if server.identity.is_running() and not self._is_of_another(server, model, slot) else None

    def _is_of_another(self, server: _Server, model: str, slot: str) -> bool:
        """Whether the process serves the slot of another home, from which this one's files were copied."""
        try:
            owner = psutil.Process(server.identity.pid).environ().get(OWNER, "")
        except psutil.Error:
            return False
        return owner not in ("", str(self._home)) and (Path(owner) / "slots" / f"{model}-{slot}.json").is_file()

    def _marked(self, mark: str) -> _Server | None:
        """The running process with that mark in its environment, for a slot whose state file says nothing of a process."""
        marked = {process.pid: process for process in psutil.process_iter() if self._has(process, mark)}
        for process in marked.values():
            with contextlib.suppress(psutil.Error, ValueError):
                if process.ppid() in marked:
                    continue  # what the server has forked
                line = process.cmdline()
                version, port = (line[line.index(option) + 1] for option in ("--version", "--port"))
                identity = ProcessIdentity.of(process.pid)
                return _Server(identity, version, f"http://127.0.0.1:{port}") if identity else None
        return None

    def _has(self, process: psutil.Process, mark: str) -> bool:
        try:
            environment = process.environ()
        except (psutil.Error, ValueError):
            return False
        return (environment.get(OWNER), environment.get(SLOT)) == (str(self._home), mark)

    def _write(self, model: str, slot: str, state: dict[str, Any]) -> None:
        aside = self._state_file(model, slot).with_suffix(".part")
        aside.write_text(json.dumps(state), encoding="utf-8")
        aside.replace(self._state_file(model, slot))

    def _state(self, model: str, slot: str) -> dict[str, Any]:
        """Raises OSError, and ValueError for a torn file."""
        return json.loads(self._state_file(model, slot).read_text(encoding="utf-8"))

    @contextlib.contextmanager
    def _locked(self, model: str, slot: str, *, wait: bool = True) -> Iterator[None]:
        """Raises filelock.Timeout when another has the slot and this one must not wait."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / f"{model}-{slot}.lock", timeout=-1 if wait else 0):
            yield

    def _from_home(self, path: Path) -> str:
        """The path as the state file holds it: relative below the home, which may be moved."""
        return str(path.relative_to(self._home) if path.is_relative_to(self._home) else path.absolute())

    def _state_file(self, model: str, slot: str) -> Path:
        return self._folder / f"{model}-{slot}.json"

    def _output_file(self, model: str, slot: str) -> Path:
        return self._folder / f"{model}-{slot}.out"


def _signal(process: ProcessIdentity, which: signal.Signals) -> None:
    if process.is_running():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, which)


def _ended(process: ProcessIdentity, limit_s: float) -> bool:
    """Whether the process ended within `limit_s`."""
    until = time.monotonic() + limit_s
    while process.is_running():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def _server_environment(home: Path) -> dict[str, str]:
    """The server's environment: no secret and no setting of ours, because it needs none."""
    inherited = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH") if key in os.environ}
    return {**inherited, "PYTHONUNBUFFERED": "1", OWNER: str(home)}
