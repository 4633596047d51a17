"""A ledger of years with its chain, its settings and its routes, as a team of 200 models or of one would have it: what speed is measured on.

Each model is retrained every other week: the run's steps with their usage, its data, gates, version, rollout and slots; now and then a
failed step, a killed one, a rollback or a rollout that failed. In between are looks for drift, receipts, scored and settled weeks, checks
of approvals and budgets that burn. Models are retrained in turn, so that no model's events lie together.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from harness.project import CHURN, make_project
from harness.project import ROOT as ROOT
from pipeline.ledger.chain import GENESIS, canonical, chain_hash
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
from pipeline.ledger.receipt_events import DecisionSettled, RetrainDecided, WindowScored
from pipeline.ledger.rollout_events import (
    Promoted,
    Promoting,
    RollbackStarted,
    RolledBack,
    RolloutEnded,
    RolloutFailed,
    RolloutStarted,
    RouteMoved,
    RouteMoving,
    SlotEnded,
    SlotEnding,
    SlotReady,
    SlotStarted,
    SlotStarting,
)
from pipeline.ledger.slo_events import BudgetBurning, BudgetCalm
from pipeline.ledger.store import EVENTS, Ledger
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route, RoutedSlot

END = datetime(2026, 11, 20, tzinfo=UTC)
START = END - timedelta(days=730)
# Of one retrain of a model with the looks around it, on average.
A_RETRAIN = 53
# No slot answers there, and the system refuses at once.
NOBODY = "http://127.0.0.1:9"
STEPS = (
    *("open_workspace", "snapshot", "validate", "train", "evaluate", "refit", "package", "check_gates", "register"),
    *("roll_out", "settle"),
)
SETTINGS = {"serving": {"cpus": 1.0, "memory_mb": 512}}
# So many days of data a version learns from; of the newest a run lands so many again, as their labels come late.
WINDOW_DAYS, LATE_DAYS = 90, 7
VERDICTS = [
    {"gate": f"gate_{i}", "passed": True, "observed": 0.1, "limit": 0.2, "reason": "below its limit"} for i in range(10)
]
FEATURES = [{"feature": f"f{i}", "psi": 0.1, "limit": 0.2, "moved": False} for i in range(20)]
Happened = tuple[datetime, Event, str, str]


def project(folder: Path, models: int) -> Path:
    """A project whose params.yaml has so many models."""
    return make_project(folder, {f"model-{i}": CHURN for i in range(models)})


def fill(ledger: Ledger, models: int, events: int, seed: int = 0) -> None:
    """Writes so many events of so many models, each row chained to the one before it."""
    rows: list[dict[str, Any]] = []
    previous = GENESIS
    with ledger.writing() as connection:
        for seq, row in enumerate(_rows(models, events, seed), start=1):
            hashed = {"seq": seq, **row}
            chained = {**hashed, "previous": previous, "hash": chain_hash(previous, hashed)}
            previous = str(chained["hash"])
            rows.append(chained)
            if len(rows) == 20_000 or seq == events:
                connection.execute(EVENTS.insert(), rows)
                rows = []
            if seq == events:
                return


def write_lists(ledger: Ledger, project: Path) -> None:
    """The list of files of each data version, as its landings have them, in DVC's cache."""
    query = sa.select(EVENTS.c.model, EVENTS.c.body).where(EVENTS.c.kind == DataLanded.KIND).order_by(EVENTS.c.seq)
    newest: dict[str, dict[str, str]] = {}
    for model, body in ledger.rows(query):
        data = json.loads(body)
        of = newest.setdefault(model, {})
        of |= {name: landed["md5"] for name, landed in data["landed"].items()}
        names = (file_of(data["as_of"], day) for day in range(1, data["partitions"] + 1))
        files = [{"md5": of[name], "relpath": name} for name in sorted(names) if name in of]
        version = data["data_version"]
        file = project / ".dvc" / "cache" / "files" / "md5" / version[:2] / version[2:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(files), encoding="utf-8")


def file_of(as_of: str, day: int) -> str:
    """The name of the partition so many days before an as-of."""
    return f"{datetime.fromisoformat(as_of) - timedelta(days=day):%Y-%m-%d}.parquet"


def _landed(version: int, as_of: str, days: int) -> dict[str, dict[str, Any]]:
    """The partitions that a run lands `days` days after the one before it."""
    count = WINDOW_DAYS if version == 1 else max(days, LATE_DAYS)
    names = [file_of(as_of, day) for day in range(1, count + 1)]
    return {
        name: {
            "md5": hashlib.md5(f"{name} {version}".encode(), usedforsecurity=False).hexdigest(),
            "rows": 900,
            "delta_rows": 900,
            "view_of": None,
            "why": "first",
        }
        for name in names
    }


def write_routes(ledger: Ledger, home: Path) -> None:
    """The route of each model that is live, to slots that do not answer."""
    for entry in ledger.newest(RolloutEnded, RolledBack):
        move = entry.event
        live = RoutedSlot(move.slot, move.version, NOBODY, move.digest or "")
        route_file.write(home, Route(entry.model, live, stamp=f"{entry.model}-{move.version}"), 0)


def _rows(models: int, events: int, seed: int) -> Iterator[dict[str, Any]]:
    draw, number = random.Random(seed), 0
    every = (END - START) / (events / A_RETRAIN)
    while True:
        model, version = f"model-{number % models}", number // models + 1
        began = START + number * every
        run = f"retrain__{model}/scheduled__{began:%Y-%m-%dT%H:%M:%S}+00:00"
        for at, event, step, prefix in _retrain(version, began, (every * models).days + 1, draw):
            text = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            name = run.replace("retrain__", f"{prefix}__") if prefix else ""
            body = canonical(event.body())
            yield {"at": text, "run": name, "model": model, "kind": event.KIND, "step": step, "body": body}
        number += 1


def _retrain(version: int, at: datetime, days: int, draw: random.Random) -> Iterator[Happened]:
    """What happens to a model around one retrain, `days` days after the one before it. The times go on by a second each, so that they never go back."""
    second = timedelta(milliseconds=10)
    for event, step, prefix in _story(version, at, days, draw):
        yield at, event, step, prefix
        at += second


def _story(version: int, at: datetime, days: int, draw: random.Random) -> Iterator[tuple[Event, str, str]]:
    yield from _looks(version, at, draw)
    now, before = str(version), str(version - 1)
    as_of, data_version = at.isoformat(), f"{draw.getrandbits(128):032x}"
    yield RunOpened(as_of=as_of, reason="schedule"), "", "retrain"
    killed = draw.random() < 0.02
    for step in STEPS:
        yield StepStarted(), step, "retrain"
        if killed and step == "train":
            yield RunSettled(outcome="killed"), "", "retrain"
            return
        if draw.random() < 0.02:
            yield _usage(draw, "failed"), step, "retrain"
            yield StepStarted(), step, "retrain"
        yield _usage(draw, "success"), step, "retrain"
    data = DataLanded(
        data_version=data_version,
        as_of=as_of,
        partitions=WINDOW_DAYS,
        landed=_landed(version, as_of, days),
        remote="/r",
        pushed_bytes=10**7,
    )
    yield data, "", "retrain"
    yield GatesChecked(verdicts=VERDICTS), "", "retrain"
    yield (
        VersionRegistered(version=now, mlflow_run="0" * 32, data_version=data_version, as_of=as_of),
        "",
        "retrain",
    )
    slot, other = ("blue", "green") if version % 2 else ("green", "blue")
    yield RolloutStarted(version=now, slot=slot), "", "retrain"
    if draw.random() < 0.03:
        yield RolloutFailed(version=now, error="the slot did not answer"), "", "retrain"
        return
    yield from ((event, "", "retrain") for event in _rollout(now, before, slot, other))
    if draw.random() < 0.05 and version > 1:
        yield RollbackStarted(version=before, left=now), "", ""
        yield RolledBack(version=before, slot=other, digest=f"d{before}", left=now, left_digest=f"d{now}"), "", ""
        yield SlotEnded(version=now, slot=slot), "", ""
    else:
        yield SlotEnding(version=before, slot=other), "", ""
        yield SlotEnded(version=before, slot=other), "", ""
    yield RunSettled(outcome=f"version {now} went live", cost=0.01, currency="USD"), "", "retrain"


def _rollout(now: str, before: str, slot: str, other: str) -> Iterator[Event]:
    yield SlotStarting(version=now, slot=slot)
    yield SlotStarted(version=now, slot=slot)
    yield SlotReady(version=now, slot=slot, golden=20, ready_s=1.0, settings=SETTINGS)
    yield RouteMoving(to=now)
    yield RouteMoved(to=now, switch_s=0.1)
    yield Promoting(version=now)
    yield Promoted(version=now)
    yield RolloutEnded(version=now, slot=slot, digest=f"d{now}", previous=before, to_traffic_s=4.0)


def _looks(version: int, at: datetime, draw: random.Random) -> Iterator[tuple[Event, str, str]]:
    """Two looks of the monitor Dag, with a step each, and what was scored and settled since."""
    before, older = str(version - 1), str(version - 2)
    for week in (2, 1):
        looked = at - timedelta(days=7 * (week - 1))
        as_of, start = looked.isoformat(), (looked - timedelta(days=7)).isoformat()
        for step in ("check_drift", "decide_retrain"):
            yield StepStarted(), step, "monitor"
            yield _usage(draw, "success"), step, "monitor"
        verdict = "drift" if draw.random() < 0.05 else "no drift"
        alarm = {"since": as_of, "start": start, "features": {}} if verdict == "drift" else None
        yield (
            DriftChecked(
                verdict=verdict,
                reason="by its limits",
                champion=before,
                as_of=as_of,
                features=FEATURES,
                alarm=alarm,
                report=f"reports/{as_of[:10]}.html",
            ),
            "",
            "monitor",
        )
        losses = {f"d{older}": 0.52 + draw.random() / 100, f"d{before}": 0.5}
        yield (
            WindowScored(
                start=start,
                end=as_of,
                as_of=as_of,
                loss="log_loss",
                requests=900,
                labelled=800,
                losses=losses,
                served=f"d{before}",
            ),
            "",
            "monitor",
        )
        decision = "retrain" if week == 1 else "wait"
        decided = RetrainDecided(
            as_of=as_of, champion=before, digest=f"d{before}", rule="value", says=decision, decision=decision,
            why="it pays" if week == 1 else "it does not pay yet", cost=24.0, saving=30.0, low=10.0, high=50.0, currency="USD",
            ages={before: 2 - week}, ahead=4,
        )  # fmt: skip
        yield decided, "", "monitor"
    settled = DecisionSettled(
        as_of=(at - timedelta(days=28)).isoformat(), decision="retrain", version=before, instead=older, windows=4, saved=28.0,
        low=12.0, high=44.0, cost=24.0, currency="USD", expected=30.0, ahead=4,
    )  # fmt: skip
    yield settled, "", "monitor"
    if draw.random() < 0.1:
        yield BudgetBurning(objective="availability", severity="page", rate=14.4, hours=1.0, reason="too many failed"), "", "slo"  # fmt: skip
        yield BudgetCalm(objective="availability"), "", "slo"


def _usage(draw: random.Random, state: str) -> StepEnded:
    used = round(draw.random() * 20, 3)
    return StepEnded(
        state=state, wall_s=round(used * 1.3, 3), cpu_s=used, peak_mb=round(200 + 100 * draw.random(), 1), error=""
    )
