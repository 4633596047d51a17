"""Slots as local processes: the same server that goes into the image, in this Python.

`slots/MODEL-SLOT.json` records each process with its identity, so that a process that merely got the same pid is never taken
for it, nor ended. A first version of the file is written before the start, without an identity: when the starter is killed
in between, or the file is torn, the process is found by the marks in its environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pipeline.errors import RolloutError
from pipeline.rollout import failpoints
from pipeline.rollout.engines import slot_settings
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
class _Server:
    """A slot's process, the version that it serves, and its address (a URL)."""

    identity: ProcessIdentity
    version: str
    address: str


class ProcessEngine:
    name = "process"

    def __init__(self, settings: EngineSettings) -> None:
        self._home, self._project = settings.home, settings.project
        self._folder = self._home / "slots"

    def start(self, spec: SlotSpec) -> Running:
        model, slot, version = spec.model, spec.slot, spec.version
        if self.find(model, slot) is not None:
            raise RolloutError(f"slot {model} {slot}", "is taken", "stop it first")
        self._folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        options = {
            "--package": spec.package,
            "--version": version,
            "--slot": slot,
            "--port": port,
            "--log": spec.log,
            "--drain": spec.drain_s,
        }
        address = f"http://127.0.0.1:{port}"
        self._write(model, slot, {"version": version, "address": address})
        settings_file = slot_settings.path_of(self._home, self.name, model, slot)
        slot_settings.write(settings_file, spec.serving)
        command = [sys.executable, "-m", "pipeline.serving", *(str(part) for pair in options.items() for part in pair)]
        with self._output_file(model, slot).open("wb") as output, failpoints.around("start process"):
            process = subprocess.Popen(
                command,
                cwd=self._project,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**_server_environment(self._home), SLOT: f"{model}-{slot}", VARIABLE: str(settings_file)},
            )
        identity = ProcessIdentity.of(process.pid)
        started = {"pid": process.pid, "born": identity.stamp if identity else None}
        self._write(model, slot, {**started, "version": version, "address": address})
        return Running(model, slot, version, address, self.name)

    def find(self, model: str, slot: str) -> Running | None:
        server = self._server_of(model, slot)
        return Running(model, slot, server.version, server.address, self.name) if server else None

    def stop(self, model: str, slot: str, drain_s: float) -> int | None:
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

    def prune(self, model: str, keep: set[str]) -> None:
        """Nothing: a process starts from the package itself."""

    def clean_up(self) -> None:
        """Nothing: processes share the machine's network."""

    def _server_of(self, model: str, slot: str) -> _Server | None:
        """The running process that serves the slot; None when none does."""
        try:
            state = json.loads(self._state_file(model, slot).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            state = {}
        if not isinstance(state, dict) or "born" not in state:
            return self._marked(f"{model}-{slot}")
        if state["born"] is None:
            return None
        server = _Server(ProcessIdentity.recorded(state["pid"], state["born"]), state["version"], state["address"])
        return server if server.identity.is_running() else None

    def _marked(self, mark: str) -> _Server | None:
        """The running process with that mark in its environment, for a slot whose state file says nothing of a process."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ValueError):
                environment = process.environ()
                if (environment.get(OWNER), environment.get(SLOT)) != (str(self._home), mark):
                    continue
                line = process.cmdline()
                version, port = (line[line.index(option) + 1] for option in ("--version", "--port"))
                identity = ProcessIdentity.of(process.pid)
                return _Server(identity, version, f"http://127.0.0.1:{port}") if identity else None
        return None

    def _write(self, model: str, slot: str, state: dict[str, Any]) -> None:
        aside = self._state_file(model, slot).with_suffix(".part")
        aside.write_text(json.dumps(state), encoding="utf-8")
        aside.replace(self._state_file(model, slot))

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
