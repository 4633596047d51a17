"""The ledger of a home, as the product finds it."""

from __future__ import annotations

from pathlib import Path

from pipeline.ledger.store import Ledger
from pipeline.settings.environment import Environment


def ledger_of(home: Path) -> Ledger:
    return Ledger(Environment.read().at(home, home).ledger_url)
