"""The card's part on what the version did: when it was live, its rollouts, and what the looks at its traffic saw."""

from __future__ import annotations

from typing import Any

from pipeline.ledger.events import DriftChecked
from pipeline.ledger.store import Entry
from pipeline.runs.model_card.content import SHOWN, CardTable, Section, newest, said
from pipeline.runs.model_card.known import ROLLOUTS, Known


def history(known: Known) -> Section:
    """When it was live, and the newest SHOWN of its rollouts, drift alarms and looks; times are UTC."""
    live = [[period.start, period.end or "now"] for period in known.live]
    looks = known.looks
    alarms = {alarm["since"]: alarm for entry in looks if (alarm := entry.event.alarm)}
    tables = [CardTable(["from", "until"], live, "Live")] if live else []
    if rollouts := [e for e in known.events if isinstance(e.event, ROLLOUTS) and known.version in _versions(e.event)]:
        rows = [[entry.at, entry.event.sentence()] for entry in rollouts[-SHOWN:]]
        tables.append(CardTable(["at", "what"], rows, newest("Rollouts", len(rollouts))))
    if alarms:
        rows = [
            [said(since), ", ".join(alarm.get("features") or ()) or "its answers", alarm.get("ended") or "goes on"]
            for since, alarm in alarms.items()
        ]
        tables.append(CardTable(["since", "what changed", "ended"], rows[-SHOWN:], newest("Drift alarms", len(rows))))
    if looks:
        rows = [_look(entry) for entry in looks[-SHOWN:]]
        columns = ["as of", "verdict", "live quality", "said"]
        tables.append(CardTable(columns, rows, newest("Looks at its traffic", len(looks))))
    notes = [] if known.live else ["It was never live."]
    return Section("Live history", tables=tables, notes=notes)


def _versions(event: Any) -> set[str]:
    return {str(getattr(event, name, "")) for name in ("version", "left", "champion")}


def _look(entry: Entry[DriftChecked]) -> list[str]:
    return [entry.event.as_of, entry.event.verdict, _quality(entry.event.live_quality), entry.event.sentence()]


def _quality(quality: Any) -> str:
    """A pipeline.monitoring.live_quality.LiveQuality, as the event has it, in words."""
    if not quality or not isinstance(quality.get("value"), int | float):
        return "not known: too few labels"
    enclosed = f" ({quality['low']:.4g} to {quality['high']:.4g})" if quality.get("low") is not None else ""
    return f"{quality['metric']} {quality['value']:.4g}{enclosed} on {quality['labelled']:,} rows; {quality['held_out']:.4g} held out"
