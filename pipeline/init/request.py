"""What a person asks of `init`, what it answers, and the two kinds of lines that it says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    """`perennial init`'s arguments. What is None or empty is inferred."""

    model: str
    data: str
    target: str
    time: str | None = None
    key: str | None = None
    label_time: str | None = None
    task: str | None = None
    positive: str | None = None
    metric: str | None = None
    weight: str | None = None
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    datetime: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    window_days: float | None = None
    holdout_days: float | None = None
    timezone: str = "UTC"
    cron: str | None = None


@dataclass(frozen=True)
class Assumption:
    """One choice, why it was made, and the flag that overrides it; '' where there is none."""

    what: str
    chosen: str
    why: str
    flag: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.chosen}, {self.why}{f' ({self.flag})' if self.flag else ''}"


@dataclass(frozen=True)
class LeftOut:
    """A column that is no feature."""

    column: str
    why: str
    advice: str = ""

    def __str__(self) -> str:
        # In a comment of the block a line break would end the comment.
        name = self.column if self.column.strip() and self.column.isprintable() else repr(self.column)
        return f"left out {name}: {self.why}{f'; {self.advice}' if self.advice else ''}"


@dataclass(frozen=True)
class Draft:
    """The block as it will stand in params.yaml, `settings`, and what is said about it."""

    model: str
    settings: dict[str, Any]
    assumptions: list[Assumption] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
