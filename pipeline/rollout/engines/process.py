"""Slots as local processes: the same server that goes into the image, in this Python.

What was started is written down in `slots/MODEL-SLOT.json` with the process's id and birth, so that a process that merely
got the same id is never taken for it, nor ended. That it is to start is written down before: one whose starter was killed
in between, or whose file was lost, is found by the marks in its environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from pipeline.errors import RolloutError
from pipeline.rollout import failpoints
from pipeline.rollout.engines.base import EngineSettings, Running, Wanted, cut_off
from pipeline.serving.settings import VARIABLE
from pipeline.settings.net import free_port
from pipeline.settings.process_identity import born

# What a server has beyond its drain time to write its log and end.
GRACE_S = 5.0
# Every process of a home carries this in its environment, so that `make down` finds one that lost its parent.
OWNER = "PERENNIAL_SERVICE_OF"
SLOT = "PERENNIAL_SLOT"


class ProcessEngine:
    name = "process"

    def __init__(self, settings: EngineSettings) -> None:
        self._home, self._project = settings.home, settings.project
        self._folder = self._home / "slots"

    def start(self, wanted: Wanted) -> Running:
        model, slot, version = wanted.model, wanted.slot, wanted.version
        if self.find(model, slot) is not None:
            raise RolloutError(f"slot {model} {slot}", "is taken", "stop it first")
        self._folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        given = {
            "--package": wanted.package,
            "--version": version,
            "--slot": slot,
            "--port": port,
            "--log": wanted.log,
            "--drain": wanted.drain_s,
        }
        address = f"http://127.0.0.1:{port}"
        self._write(model, slot, {"version": version, "address": address})
        command = [sys.executable, "-m", "pipeline.serving", *(str(part) for pair in given.items() for part in pair)]
        with self._output_file(model, slot).open("wb") as output, failpoints.around("start process"):
            process = subprocess.Popen(
                command,
                cwd=self._project,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**_server_environment(self._home), SLOT: f"{model}-{slot}", VARIABLE: wanted.serving},
            )
        told = {"pid": process.pid, "born": born(process.pid), "version": version, "address": address}
        self._write(model, slot, told)
        return Running(model, slot, version, address, self.name)

    def find(self, model: str, slot: str) -> Running | None:
        told = self._told(model, slot)
        return Running(model, slot, told["version"], told["address"], self.name) if told else None

    def stop(self, model: str, slot: str, drain_s: float) -> int | None:
        told = self._told(model, slot)
        if told is not None:
            _signal(told, signal.SIGTERM)
            if not _ended(told, drain_s + GRACE_S):
                _signal(told, signal.SIGKILL)
                _ended(told, GRACE_S)
        self._state_file(model, slot).unlink(missing_ok=True)
        return cut_off(self.output(model, slot)) if told is not None else 0

    def output(self, model: str, slot: str) -> str:
        path = self._output_file(model, slot)
        return " | ".join(path.read_text(errors="replace").strip().splitlines()[-3:]) if path.is_file() else ""

    def all(self) -> list[Running]:
        names = [path.stem.rpartition("-") for path in sorted(self._folder.glob("*.json"))]
        found = [self.find(model, slot) for model, _, slot in names]
        return [running for running in found if running is not None]

    def prune(self, model: str, keep: set[str]) -> None:
        """Nothing: a process starts from the package itself."""

    def leave(self) -> None:
        """Nothing: processes share the machine's network."""

    def _told(self, model: str, slot: str) -> dict[str, Any] | None:
        """The process that serves the slot: {"pid", "born", "version", "address"}, or None when none does."""
        try:
            told = json.loads(self._state_file(model, slot).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            told = {}
        if not isinstance(told, dict) or "born" not in told:
            told = self._marked(f"{model}-{slot}")
        return told if told and _alive(told) else None

    def _marked(self, mark: str) -> dict[str, Any] | None:
        """The same of a process about which only its environment tells."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ValueError):
                environment = process.environ()
                if (environment.get(OWNER), environment.get(SLOT)) != (str(self._home), mark):
                    continue
                line = process.cmdline()
                version, port = (line[line.index(option) + 1] for option in ("--version", "--port"))
                at = {"version": version, "address": f"http://127.0.0.1:{port}"}
                return {"pid": process.pid, "born": born(process.pid), **at}
        return None

    def _write(self, model: str, slot: str, told: dict[str, Any]) -> None:
        aside = self._state_file(model, slot).with_suffix(".part")
        aside.write_text(json.dumps(told), encoding="utf-8")
        aside.replace(self._state_file(model, slot))

    def _state_file(self, model: str, slot: str) -> Path:
        return self._folder / f"{model}-{slot}.json"

    def _output_file(self, model: str, slot: str) -> Path:
        return self._folder / f"{model}-{slot}.out"


def _alive(told: dict[str, Any]) -> bool:
    return told["born"] is not None and born(told["pid"]) == told["born"]


def _signal(told: dict[str, Any], which: signal.Signals) -> None:
    if _alive(told):
        with contextlib.suppress(ProcessLookupError):
            os.kill(told["pid"], which)


def _ended(told: dict[str, Any], limit_s: float) -> bool:
    """Whether the process ended within `limit_s`."""
    until = time.monotonic() + limit_s
    while _alive(told):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def _server_environment(home: Path) -> dict[str, str]:
    """The server needs no secret and no setting of ours; it gets none."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH") if key in os.environ}
    return {**kept, "PYTHONUNBUFFERED": "1", OWNER: str(home)}
