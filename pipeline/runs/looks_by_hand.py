"""Looks that people take: `perennial decide` starts nothing. So no look of a Dag counts what one of them said as asked for, or as spent of a
budget."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from pipeline.ledger.events import Event
from pipeline.ledger.store import Entry

E = TypeVar("E", bound=Event)
_PREFIX = "cli/decide/"


def run_of(name: str) -> str:
    """The run that a look by hand has in the ledger."""
    return f"{_PREFIX}{name}"


def counted(entries: Iterable[Entry[E]], run: str) -> list[Entry[E]]:
    """Those of earlier looks by which one of this run goes. A person's goes by all, so that looks by hand alone come to what those of a Dag
    would."""
    return [entry for entry in entries if run.startswith(_PREFIX) or not entry.run.startswith(_PREFIX)]
