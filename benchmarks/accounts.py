"""How long `costs`, `account` and `roi` take with 350,000 events: processor time of each command, of which none may take more than a second.

The ledger has the events of years: 40 models that are retrained each week, with slots, rollouts, rollbacks, drift checks, receipts and
scored weeks. Rows are written past the chain: what is measured reads them and verifies none.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from harness.project import make_project
from pipeline.ledger.events import (
    DataLanded,
    DriftChecked,
    Event,
    GatesChecked,
    RunOpened,
    RunSettled,
    StepEnded,
    StepStarted,
    VersionRegistered,
)
from pipeline.ledger.receipt_events import RetrainDecided, WindowScored
from pipeline.ledger.rollout_events import RolledBack, RolloutEnded, RolloutStarted, SlotEnded, SlotReady, SlotStarted
from pipeline.ledger.store import EVENTS, Ledger

EVENTS_IN_ALL = int(os.environ.get("PERENNIAL_BENCH_EVENTS", "350000"))
LIMIT_S, MODELS = 1.0, 40
COMMANDS = (["costs"], ["costs", "--json"], ["costs", "model-0"], ["account", "model-0"], ["roi"], ["roi", "model-0"])
STEPS = (
    "open_workspace",
    "snapshot",
    "validate",
    "train",
    "evaluate",
    "package",
    "check_gates",
    "register",
    "roll_out",
    "settle",
)
START = datetime(2016, 1, 4, tzinfo=UTC)
SETTINGS = {"serving": {"cpus": 1.0, "memory_mb": 512}}
LANDED = {
    f"2024-01-{day:02d}.parquet": {"md5": "0" * 32, "rows": 900, "delta_rows": 900, "view_of": None, "why": "first"}
    for day in range(1, 8)
}
VERDICTS = [
    {"gate": f"gate_{i}", "passed": True, "observed": 0.1, "limit": 0.2, "reason": "below its limit"} for i in range(10)
]
FEATURES = [{"feature": f"f{i}", "psi": 0.1, "limit": 0.2, "moved": False} for i in range(20)]


def main() -> bool:
    fine = True
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder), {})
        _fill(project)
        for command in COMMANDS:
            taken = _taken_s(project, command)
            fine = fine and taken <= LIMIT_S
            print(
                f"{EVENTS_IN_ALL:,} events of {MODELS} models: {' '.join(command):18} {taken:.2f} s, at most {LIMIT_S:g}"
            )
    return fine


def _fill(project: Path) -> None:
    ledger = Ledger(f"sqlite:///{project / '.perennial' / 'ledger.db'}")
    rows = []
    with ledger.writing() as connection:
        for seq, row in enumerate(_rows(), start=1):
            rows.append({**row, "seq": seq, "previous": "0" * 64, "hash": "0" * 64})
            if len(rows) == 20_000 or seq == EVENTS_IN_ALL:
                connection.execute(EVENTS.insert(), rows)
                rows = []
            if seq == EVENTS_IN_ALL:
                return


def _rows() -> Iterator[dict[str, Any]]:
    """The rows of one retrain of each model a week, without an end."""
    draw, number = random.Random(0), 0
    every = timedelta(days=7) / MODELS
    while True:
        model, version = f"model-{number % MODELS}", str(number // MODELS + 1)
        at = START + number * every
        for minute, (event, step) in enumerate(_run(version, at, draw)):
            text = (at + timedelta(minutes=minute)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            run = f"retrain__{model}/scheduled__{number}"
            yield {
                "at": text,
                "run": run,
                "model": model,
                "kind": event.KIND,
                "step": step,
                "body": json.dumps(event.body()),
            }
        number += 1


def _run(version: str, at: datetime, draw: random.Random) -> Iterator[tuple[Event, str]]:
    as_of, before = at.isoformat(), str(int(version) - 1)
    start, end = ((at + timedelta(days=day)).isoformat() for day in (-7, 0))
    losses = {f"d{before}": 0.52 + draw.random() / 100, f"d{version}": 0.5}
    yield (
        DriftChecked(verdict="no drift", reason="below its limits", champion=before, as_of=as_of, features=FEATURES),
        "",
    )
    yield (
        WindowScored(
            start=start,
            end=end,
            as_of=as_of,
            loss="log_loss",
            requests=900,
            labelled=800,
            losses=losses,
            served=f"d{before}",
        ),
        "",
    )
    yield (
        RetrainDecided(
            as_of=as_of, champion=before, digest=f"d{before}", rule="value", says="retrain", decision="retrain", why="it pays", cost=24.0
        ),
        "",
    )  # fmt: skip
    yield RunOpened(as_of=as_of, reason="schedule"), ""
    for step in STEPS:
        yield StepStarted(), step
        used = round(draw.random() * 20, 3)
        yield (
            StepEnded(
                state="success", wall_s=round(used * 1.3, 3), cpu_s=used, peak_mb=round(200 + 100 * draw.random(), 1)
            ),
            step,
        )
    yield (
        DataLanded(
            data_version="0" * 32, as_of=as_of, partitions=90, landed=LANDED, remote="s3://b", pushed_bytes=10**7
        ),
        "",
    )
    yield GatesChecked(verdicts=VERDICTS), ""
    yield VersionRegistered(version=version, mlflow_run="0" * 32, data_version="0" * 32, as_of=as_of), ""
    slot, other = ("blue", "green") if int(version) % 2 else ("green", "blue")
    yield RolloutStarted(version=version, slot=slot), ""
    yield SlotStarted(version=version, slot=slot), ""
    yield SlotReady(version=version, slot=slot, golden=20, ready_s=1.0, settings=SETTINGS), ""
    yield RolloutEnded(version=version, slot=slot, digest=f"d{version}", previous=before, to_traffic_s=4.0), ""
    if draw.random() < 0.1:
        yield RolledBack(version=before, slot=other, digest=f"d{before}", left=version, left_digest=f"d{version}"), ""
    yield SlotEnded(version=before, slot=other), ""
    yield RunSettled(outcome=f"version {version} went live", cost=0.01, currency="USD"), ""


def _taken_s(project: Path, command: list[str]) -> float:
    environment = os.environ | {"PERENNIAL_PROJECT": str(project), "PERENNIAL_HOME": str(project / ".perennial")}
    environment.pop("PERENNIAL_LEDGER_URL", None)
    # A model of the ledger that params.yaml does not have is known by its deployments.
    before = os.times()
    told = subprocess.run(
        [sys.executable, "-m", "pipeline", *command], env=environment, cwd=project, capture_output=True, text=True
    )
    after = os.times()
    assert told.returncode == 0, told.stderr
    return after.children_user - before.children_user + after.children_system - before.children_system


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
