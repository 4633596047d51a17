"""What happened to a model, and which version was live at a given time, told from the ledger."""

from __future__ import annotations

from typing import Any

from pipeline.ledger.events import shown
from pipeline.ledger.rollout_events import MOVES, RolledBack
from pipeline.ledger.store import Ledger


def timeline(ledger: Ledger, model: str, until: str = "") -> list[dict[str, Any]]:
    """The events a person asks about, oldest first, each with one line of what it says."""
    return [
        {
            "at": entry.at,
            "kind": entry.kind,
            "run": entry.run,
            "what": entry.event.sentence(),
            **({"details": entry.body} if entry.body else {}),
        }
        for entry in ledger.events(*shown(), model=model, until=until)
    ]


def live_at(ledger: Ledger, model: str, until: str = "") -> dict[str, Any] | None:
    """{"version", "slot", "since", "engine"} of what was live at `until` (default now), or None."""
    moves = ledger.events(*MOVES, model=model, until=until)
    if not moves:
        return None
    last = moves[-1]
    return {"version": last.event.version, "slot": last.event.slot, "engine": last.event.engine, "since": last.at}


def predecessor(ledger: Ledger, model: str, version: str) -> str | None:
    """The version that was live before `version` last was, or None."""
    moves = ledger.events(*MOVES, model=model)
    others = [move.event.version for move in moves if move.event.version != version]
    return others[-1] if others else None


def unpulled_predecessor(ledger: Ledger, model: str, version: str) -> str | None:
    """The version that was live before `version`, but for those that were gone back from: nobody wants them back."""
    pulled: set[str] = set()
    others: list[str] = []
    for move in ledger.events(*MOVES, model=model):
        pulled.discard(move.event.version)
        if isinstance(move.event, RolledBack):
            pulled.add(move.event.left)
        if move.event.version != version:
            others.append(move.event.version)
    return next((other for other in reversed(others) if other not in pulled), None)


def live_periods(ledger: Ledger, model: str, version: str) -> list[dict[str, Any]]:
    """When `version` was live: [{"from", "until"}], until None for as long as it is."""
    periods: list[dict[str, Any]] = []
    current = None
    for move in ledger.events(*MOVES, model=model):
        if move.event.version == current:
            continue
        if current == version:
            periods[-1]["until"] = move.at
        current = move.event.version
        if current == version:
            periods.append({"from": move.at, "until": None})
    return periods
