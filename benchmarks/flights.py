"""The flight model that the benchmarks serve: trained and registered as a user would, once for all of them."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pandas as pd

from pipeline.context import Context
from pipeline.ledger.rollout_events import RolloutEnded
from pipeline.registry.versions import Registry
from pipeline.runs.retrain import retrain
from pipeline.settings.environment import Environment
from pipeline.settings.models import load
from pipeline.training import frames

MODEL = "flight-delay"
START_S = 180
# Removed with its content when the benchmarks end.
_FOLDER = tempfile.TemporaryDirectory(prefix="perennial-bench-")


@dataclass(frozen=True)
class Flights:
    """Version 1 of the model in a home of its own."""

    home: Path

    @property
    def registry(self) -> Registry:
        return Registry.of(Environment.read().at(Environment.read().project, self.home))

    @property
    def package(self) -> Path:
        return self.registry.package_folder(MODEL, "1")

    @property
    def skops(self) -> Path:
        """The fitted pipeline as the stages left it."""
        (file,) = self.registry.artifact_root.glob(f"{MODEL}/models/*/artifacts/model.skops")
        return file

    def rows(self, count: int) -> list[dict[str, Any]]:
        """`count` flights after those of the training window, as records of a request."""
        model = load(Environment.read().project).model(MODEL)
        days = sorted((Environment.read().project / "warehouse" / "flights").glob("*.parquet"))
        later = [day for day in days if day.stem >= f"{model.as_of:%Y-%m-%d}"]
        frame = pd.concat([pd.read_parquet(day) for day in later[: 1 + count // 500]], ignore_index=True)
        return frames.records(frame.head(count), frames.schema_of(model))


@functools.cache
def trained() -> Flights:
    """Trains and registers the model."""
    home = Path(_FOLDER.name)
    os.environ |= {"PERENNIAL_HOME": str(home), "PERENNIAL_PROJECT": str(Environment.read().project)}
    as_of = load(Environment.read().project).model(MODEL).as_of
    retrain(Context.here(), "bench", MODEL, as_of, "a benchmark", False)
    context = Context.here()
    context.registry.promote(MODEL, "1")
    context.ledger.append(RolloutEnded(version="1", slot="blue", reason="a benchmark"), MODEL)
    return Flights(home)


@contextmanager
def served(command: list[str], url: str, folder: Path, env: dict[str, str] | None = None) -> Iterator[None]:
    """Runs a server and enters the block when `url` answers 200; ends the server and its children. Logs to a file in `folder`."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | (env or {}), stdout=output, stderr=output, process_group=0
        )
    try:
        wait_for(url, lambda: process.poll() is None)
        yield
    except NotReady as error:
        raise SystemExit(f"{' '.join(command[:5])} did not start: {log.read_text()[-1000:]}") from error
    finally:
        _end(process)


class NotReady(Exception):
    """A server does not answer."""


def wait_for(url: str, alive: Callable[[], bool] = lambda: True, every_s: float = 0.2) -> None:
    """Returns when `url` answers 200. Raises NotReady after START_S, or when the server is no longer `alive`."""
    until = time.monotonic() + START_S
    while not _answers(url):
        if not alive() or time.monotonic() > until:
            raise NotReady(url)
        time.sleep(every_s)


def _end(process: subprocess.Popen) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False
