"""The parts of a roll-up by which deployments and decisions to wait are judged: scored windows, looks, and what was live. See rollup_parts.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.ledger.events import Event
from pipeline.ledger.part_events import Rows, entries_between
from pipeline.ledger.receipt_events import RetrainDecided, WindowScored
from pipeline.ledger.rollout_events import MOVES, Undeployed
from pipeline.ledger.store import Entry, Ledger

WINDOWS, LOOKS, MOVED = "windows", "looks", "moved"


def windows(ledger: Ledger, after: int, upto: int, model: str) -> Rows:
    """[model, seq, start, end, loss, labelled, losses, served]"""
    rows = []
    for entry in entries_between(ledger, after, upto, model, WindowScored):
        body = _whole(entry)
        fields = (
            body["start"],
            body["end"],
            body["loss"],
            body["labelled"],
            body.get("losses", {}),
            body.get("served", ""),
        )
        rows.append([entry.model, entry.seq, *fields])
    return rows


def looks(ledger: Ledger, after: int, upto: int, model: str) -> Rows:
    """[model, seq, as_of, whether it waits, champion, its age, currency, cost, saving, low, high]; None where the receipt does not say."""
    rows = []
    for entry in entries_between(ledger, after, upto, model, RetrainDecided):
        body = _whole(entry)
        age = body.get("ages", {}).get(body["champion"])
        expected = [body.get(name) for name in ("cost", "saving", "low", "high")]
        waits = body["decision"] == "wait"
        rows.append(
            [entry.model, entry.seq, body["as_of"], waits, body["champion"], age, body.get("currency", ""), *expected]
        )
    return rows


def moved(ledger: Ledger, after: int, upto: int, model: str) -> Rows:
    """[model, seq, at, kind, run, version, digest, already live]"""
    rows = []
    for entry in entries_between(ledger, after, upto, model, *MOVES, Undeployed):
        body = _whole(entry)
        live = bool(body.get("already_live"))
        rows.append(
            [
                entry.model,
                entry.seq,
                entry.at,
                entry.kind,
                entry.run,
                body.get("version") or "",
                body.get("digest") or "",
                live,
            ]
        )
    return rows


def _whole(entry: Entry[Event]) -> Mapping[str, Any]:
    """The body, which has the required fields. Raises LedgerError."""
    kind = KINDS[entry.kind]
    return entry.body if all(name in entry.body for name in kind.REQUIRED) else entry.event.body()


KINDS: Mapping[str, type[Event]] = {cls.KIND: cls for cls in (WindowScored, RetrainDecided, *MOVES, Undeployed)}
