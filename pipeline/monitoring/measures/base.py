"""What a drift measure gets, and the score that it returns for each feature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Tables:
    """The two tables to compare, and the columns that are features. `report` is where Evidently's picture (HTML) goes.

    `learnt` has the categories that training saw, by column, where there is a model and it knows them.
    """

    before: pd.DataFrame
    now: pd.DataFrame
    numeric: list[str]
    categorical: list[str]
    report: Path | None = None
    learnt: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def features(self) -> list[str]:
        return [*self.numeric, *self.categorical]


@dataclass(frozen=True)
class Score:
    """One measure of one feature: its `figures` by name, as the drift report has them, and whether they are over the limit.

    A score that has not moved may have no reason.
    """

    figures: Mapping[str, float | None]
    moved: bool
    reason: str = ""
