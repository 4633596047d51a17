"""What a model card holds, whatever it is written as.

Its parts are those of Mitchell et al. 2019, Model Cards for Model Reporting. What nobody recorded is said so, and never left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

NOT_RECORDED = "not recorded"
# Events that a table has.
SHOWN = 20


@dataclass(frozen=True)
class CardTable:
    """A cell is a text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""


@dataclass(frozen=True)
class Section:
    """`facts` are (name, value), `notes` sentences; `picture` is an SVG that `told` says in words."""

    title: str
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[CardTable] = ()
    notes: Sequence[str] = ()
    picture: str = ""

    @property
    def whole(self) -> Section:
        """The same section, which says so where it has nothing."""
        if self.facts or self.tables or self.notes or self.picture:
            return self
        return replace(self, notes=[f"{NOT_RECORDED[0].upper()}{NOT_RECORDED[1:]}."])


@dataclass(frozen=True)
class Card:
    """Made at `made_at` (UTC, ISO 8601): its history goes up to then."""

    model: str
    version: str
    made_at: str
    sections: Sequence[Section]

    def as_dict(self) -> dict[str, Any]:
        """Without the pictures."""
        sections = [asdict(section) for section in self.sections]
        for section in sections:
            section["facts"] = dict(section["facts"])
            del section["picture"]
        return {"model": self.model, "version": self.version, "made_at": self.made_at, "sections": sections}


def said(value: Any) -> str:
    """A recorded value as text."""
    if value is None or value == "" or value == [] or value == {}:
        return NOT_RECORDED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {said(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(said(inner) for inner in value)
    return str(value)


def within(interval: Sequence[float] | None) -> str:
    """An interval as text."""
    return f"{interval[0]:.4g} to {interval[1]:.4g}" if interval else NOT_RECORDED


def newest(title: str, count: int) -> str:
    """The title of a table of events, which says when it has not all of them."""
    of = f"the newest {SHOWN} of {count:,}"
    return title if count <= SHOWN else f"{title}, {of}" if title else of.capitalize()
