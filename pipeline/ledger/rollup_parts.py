"""The parts of a roll-up: of each, the rows that it makes of the events after a number up to another, of one model or of all ('').

A row is a list of plain values, as JSON has them, in the order that the part's docstring gives; the model is its first. Sums are whole numbers, so that they are
the same however the events are cut: processor time in microseconds, memory times time in ten-thousandths of a MiB second, energy in mJ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from pipeline.ledger.approval_events import Approved, Rejected
from pipeline.ledger.columns import MONTH, text, usage
from pipeline.ledger.events import (
    DataLanded,
    DriftChecked,
    RunOpened,
    StageKept,
    StepEnded,
    StepStarted,
    VersionRegistered,
)
from pipeline.ledger.landed_events import LandedProfiled
from pipeline.ledger.part_events import between, entries_between
from pipeline.ledger.prune_events import Pruned
from pipeline.ledger.rollout_events import (
    RollbackStarted,
    RolledBack,
    RolloutEnded,
    RolloutFailed,
    SlotEnded,
    SlotReady,
    SlotStarted,
    Undeployed,
)
from pipeline.ledger.store import EVENTS, Ledger
from pipeline.ledger.times import ms_of
from pipeline.ledger.usage_events import BytesMoved
from pipeline.ledger.used_parts import STORED, USED, stored, used
from pipeline.ledger.value_parts import LOOKS, MOVED, WINDOWS, looks, moved, windows

Rows = list[list[Any]]
STEPS, OPEN, HAPPENED, SLOTS = "steps", "open", "happened", "slots"
BYTES, PEOPLE, ALARMS, STOPPED = "bytes", "people", "alarms", "stopped"


def steps(ledger: Ledger, after: int, upto: int, model: str) -> Rows:
    """[model, step, month, attempts, cpu, memory, attempts, cpu and memory of those that failed, energy]"""
    query = (
        sa.select(EVENTS.c.model, EVENTS.c.step, MONTH, *usage(ledger))
        .where(EVENTS.c.kind == StepEnded.KIND, between(after, upto, model))
        .group_by(*(sa.literal_column(str(place)) for place in (1, 2, 3)))
    )
    return [[*row[:3], *(int(value or 0) for value in row[3:])] for row in ledger.rows(query)]


def opened(ledger: Ledger, after: int, upto: int, model: str) -> Rows:
    """[model, run, step, how much more often it began than it ended], where that is not 0."""
    balance = sa.func.sum(sa.case((EVENTS.c.kind == StepStarted.KIND, 1), else_=-1))
    keys = (EVENTS.c.model, EVENTS.c.run, EVENTS.c.step)
    query = (
        sa.select(*keys, balance)
        .where(EVENTS.c.kind.in_([StepStarted.KIND, StepEnded.KIND]), between(after, upto, model))
        .group_by(*keys)
        .having(balance != 0)
    )
    return [[*row[:3], int(row[3])] for row in ledger.rows(query)]


def happened(ledger: Ledger, after: int, upto: int, model: str) -> Rows:
    """[model, seq, at in ms since 1970, kind, run, version, left, to_traffic_s, as_of, already live, rolled back]"""
    kinds = (RunOpened, VersionRegistered, RolloutEnded, RollbackStarted, RolledBack, RolloutFailed, Undeployed)
    rows = []
    for entry in entries_between(ledger, after, upto, model, *kinds):
        body = entry.body
        took = body.get("to_traffic_s")
        rows.append(
            [
                entry.model,
                entry.seq,
                ms_of(entry.at),
                entry.kind,
                entry.run,
                str(body.get("version") or ""),
                str(body.get("left") or ""),
                float(took) if took is not None else None,
                body.get("as_of") or "",
                bool(body.get("already_live")),
                bool(body.get("rolled_back")),
            ]
        )
    return rows


def slots(ledger: Ledger, after: int, upto: int, model: str) -> Rows:
    """[model, at in ms since 1970, kind, version, slot, cpus, memory_mb]; the last two are None where the event has none."""
    rows = []
    for entry in entries_between(ledger, after, upto, model, SlotStarted, SlotReady, SlotEnded, Undeployed):
        body = entry.body
        serving: Mapping[str, Any] = (body.get("settings") or {}).get("serving") or {}
        size = [float(value) if (value := serving.get(name)) is not None else None for name in ("cpus", "memory_mb")]
        rows.append([entry.model, ms_of(entry.at), entry.kind, str(body.get("version")), body.get("slot"), *size])
    return rows


# What brings bytes to the DVC remote or to MLflow, or takes them away.
MOVERS = (DataLanded, StageKept, LandedProfiled, VersionRegistered, BytesMoved, Pruned)


def moved_bytes(ledger: Ledger, after: int, upto: int, model: str) -> Rows:
    """[model, at, run, bytes moved, how many more or fewer the DVC remote has since], where there are some."""
    rows = []
    for entry in entries_between(ledger, after, upto, model, *MOVERS):
        pushed, logged, gone = (
            float(entry.body.get(name) or 0) for name in ("pushed_bytes", "logged_bytes", "remote_bytes")
        )
        # Of a prune its `bytes` are what is gone.
        moved = float(entry.body["bytes"]) if entry.kind == BytesMoved.KIND else pushed + logged
        if moved or gone:
            rows.append([entry.model, entry.at, entry.run, moved, pushed - gone])
    return rows


def people(ledger: Ledger, after: int, upto: int, model: str) -> Rows:
    """[model, at, kind, run, alias, version]: what people have work with."""
    kinds = (VersionRegistered, Approved, Rejected, RolledBack, RolloutFailed)
    return [
        [e.model, e.at, e.kind, e.run, e.body.get("alias") or "", str(e.body.get("version") or "")]
        for e in entries_between(ledger, after, upto, model, *kinds)
        # Its rollback, which comes before it, is the incident.
        if not e.body.get("rolled_back")
    ]


def alarms(ledger: Ledger, after: int, upto: int, model: str) -> Rows:
    """[model, seq, at in ms since 1970, since, start] of each look with an alarm that goes on."""
    rows = []
    for entry in entries_between(ledger, after, upto, model, DriftChecked):
        alarm = entry.body.get("alarm") or {}
        if alarm.get("since") and not alarm.get("ended"):
            rows.append([entry.model, entry.seq, ms_of(entry.at), alarm["since"], alarm.get("start")])
    return rows


def stopped(ledger: Ledger, after: int, upto: int, model: str) -> Rows:
    """[model, seq, run] of each step check_gates that failed."""
    failed = sa.and_(EVENTS.c.kind == StepEnded.KIND, EVENTS.c.step == "check_gates", text(ledger, "state") == "failed")
    query = sa.select(EVENTS.c.model, EVENTS.c.seq, EVENTS.c.run).where(failed, between(after, upto, model))
    return [list(row) for row in ledger.rows(query.order_by(EVENTS.c.seq))]


PARTS: Mapping[str, Callable[[Ledger, int, int, str], Rows]] = {
    STEPS: steps,
    OPEN: opened,
    HAPPENED: happened,
    SLOTS: slots,
    BYTES: moved_bytes,
    PEOPLE: people,
    ALARMS: alarms,
    STOPPED: stopped,
    USED: used,
    STORED: stored,
    WINDOWS: windows,
    LOOKS: looks,
    MOVED: moved,
}
