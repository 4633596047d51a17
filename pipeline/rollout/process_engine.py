"""Slots as local processes: the same server that goes into the image, in this Python.

What was started is written down in `slots/MODEL-SLOT.json` with the process's id and start time, so that
a process that merely got the same id is never taken for it, nor ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from pipeline.errors import RolloutError
from pipeline.rollout.engine import Running, Wanted, cut_off, free_port
from pipeline.serving.settings import VARIABLE

# What a server has beyond its drain time to write its log and end.
GRACE_S = 5.0
# Every process of a home carries this in its environment, so that `make down` finds one that lost its parent.
OWNER = "PERENNIAL_SERVICE_OF"


class ProcessEngine:
    name = "process"

    def __init__(self, home: Path, project: Path) -> None:
        self._folder, self._home, self._project = home / "slots", home, project

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
        command = [sys.executable, "-m", "pipeline.serving", *(str(part) for pair in given.items() for part in pair)]
        with self._output_file(model, slot).open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self._project,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=_server_environment(self._home) | {VARIABLE: wanted.serving},
            )
        address = f"http://127.0.0.1:{port}"
        told = {"pid": process.pid, "started": _started(process.pid), "version": version, "address": address}
        aside = self._state_file(model, slot).with_suffix(".part")
        aside.write_text(json.dumps(told), encoding="utf-8")
        aside.replace(self._state_file(model, slot))
        return Running(model, slot, version, address, self.name)

    def find(self, model: str, slot: str) -> Running | None:
        told = self._told(model, slot)
        if told is None or self._process(told) is None:
            return None
        return Running(model, slot, told["version"], told["address"], self.name)

    def stop(self, model: str, slot: str, drain_s: float) -> int | None:
        told = self._told(model, slot)
        process = self._process(told) if told else None
        if told is not None and process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
                if not self._ended(told, drain_s + GRACE_S):
                    process.kill()
                    self._ended(told, GRACE_S)
        self._state_file(model, slot).unlink(missing_ok=True)
        return cut_off(self.output(model, slot)) if process is not None else 0

    def output(self, model: str, slot: str) -> str:
        path = self._output_file(model, slot)
        return " | ".join(path.read_text(errors="replace").strip().splitlines()[-3:]) if path.is_file() else ""

    def all(self) -> list[Running]:
        names = [path.stem.rpartition("-") for path in sorted(self._folder.glob("*.json"))]
        found = [self.find(model, slot) for model, _, slot in names]
        return [running for running in found if running is not None]

    def prune(self, model: str, keep: set[str]) -> None:
        """Nothing: a process starts from the package itself."""

    def _told(self, model: str, slot: str) -> dict | None:
        try:
            return json.loads(self._state_file(model, slot).read_text(encoding="utf-8"))
        except OSError:
            return None

    def _ended(self, told: dict, limit_s: float) -> bool:
        """Whether the process ended within `limit_s`; one that its parent has not asked about yet has ended too."""
        until = time.monotonic() + limit_s
        while self._process(told) is not None:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    @staticmethod
    def _process(told: dict) -> psutil.Process | None:
        try:
            process = psutil.Process(told["pid"])
            same = abs(process.create_time() - told["started"]) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def _state_file(self, model: str, slot: str) -> Path:
        return self._folder / f"{model}-{slot}.json"

    def _output_file(self, model: str, slot: str) -> Path:
        return self._folder / f"{model}-{slot}.out"


def _started(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


def _server_environment(home: Path) -> dict[str, str]:
    """The server needs no secret and no setting of ours; it gets none."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH") if key in os.environ}
    return {**kept, "PYTHONUNBUFFERED": "1", OWNER: str(home)}
