"""Whether a model's stop button is pressed: by a person, as the ledger has it, or by the calendar in its block."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from pipeline.ledger.freeze_events import Frozen, Unfrozen
from pipeline.ledger.store import Ledger
from pipeline.settings.models import Model, time_of


def frozen(ledger: Ledger, models: Mapping[str, Model], name: str, now: datetime) -> str:
    """That the model is frozen now, by whom and why; '' when it is not."""
    return all_frozen(ledger, models, [name], now).get(name, "")


def all_frozen(ledger: Ledger, models: Mapping[str, Model], names: Collection[str], now: datetime) -> dict[str, str]:
    """`frozen` of those of the models that are, by name. A block that is broken or gone has no calendar that could be read."""
    found = {name: event.sentence() for name, event in by_hand(ledger, names, now).items()}
    for name in names:
        if name in models and (span := by_calendar(models[name], name, now)):
            found.setdefault(name, span)
    return found


def by_calendar(model: Model, name: str, at: datetime) -> str:
    """That a span of its block holds at that time, and why; '' outside of them."""
    for span in model.policy.frozen:
        if span.holds(at):
            why = f": {span.reason}" if span.reason else ""
            return f"frozen until {span.end:%Y-%m-%d %H:%M} by models.{name}.policy.frozen{why}"
    return ""


def by_hand(ledger: Ledger, names: Collection[str], now: datetime) -> dict[str, Frozen]:
    """The freezes of people that go on, by model."""
    events = {entry.model: entry.event for entry in ledger.newest(Frozen, Unfrozen, models=names)}
    return {
        name: event
        for name, event in events.items()
        if isinstance(event, Frozen) and not (event.until and time_of(event.until) <= now)
    }
