"""What a unit of loss and a retrain cost in money, each part with how it is known: measured, stated by the model's owner, or guessed.

A retrain pays when the loss that it takes off, times the value of a unit on one row, times the rows until the next one, is more than
its cost. Policies count in units of loss and windows: there a retrain costs

    cost / (value * rows_a_day * window_days)
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.ledger.costs import RunCosts
from pipeline.settings.accounts import Prices
from pipeline.settings.economics import GUESSED_VALUE, Economics

Known = Literal["measured", "yours", "guess"]
# The machine's part of a run where the ledger has none.
GUESSED_RUN = 0.05
# The steps of a whole run, one that made a version.
MADE_A_VERSION = "register"


@dataclass(frozen=True)
class Figure:
    """A number, how it is known, and in words where from."""

    value: float
    known: Known
    how: str

    def as_dict(self) -> dict[str, Any]:
        return {"value": self.value, "known": self.known, "how": self.how}


@dataclass(frozen=True)
class Worth:
    """The economics of a model: `value` of a unit of `loss` on one row, and the parts of a retrain's cost, in `currency`."""

    loss: str
    currency: str
    value: Figure
    rows_a_day: Figure
    machine: Figure
    people: Figure
    risk: Figure

    @property
    def retrain(self) -> float:
        """What one retrain costs, in `currency`."""
        return self.machine.value + self.people.value + self.risk.value

    def unit(self, window_days: float) -> float:
        """What one unit of loss costs on the rows of a usual window, in `currency`."""
        return self.value.value * self.rows_a_day.value * window_days

    def retrain_in_loss(self, window_days: float) -> float:
        """What one retrain costs in units of loss times windows: what policies get."""
        return self.retrain / self.unit(window_days)

    @property
    def guesses(self) -> list[str]:
        """The settings keys below the model's name that would replace a guess."""
        keys = {
            "economics.value": self.value,
            "economics.rows_a_day": self.rows_a_day,
            "economics.retrain_minutes": self.people,
            "economics.release_risk": self.risk,
        }
        return [key for key, figure in keys.items() if figure.known == "guess"]

    def as_dict(self) -> dict[str, Any]:
        figures = {name: getattr(self, name) for name in ("value", "rows_a_day", "machine", "people", "risk")}
        return {
            "loss": self.loss,
            "currency": self.currency,
            **{name: figure.as_dict() for name, figure in figures.items()},
            "retrain": self.retrain,
            "guesses": self.guesses,
        }


def worth(economics: Economics, loss: str, prices: Prices, runs: Sequence[RunCosts], rows_a_day: Figure) -> Worth:
    """The economics of a model whose `loss` that is. `runs` are the model's own, and `rows_a_day` is what was counted of its rows."""
    if economics.rows_a_day is not None:
        rows_a_day = Figure(economics.rows_a_day, "yours", "economics.rows_a_day")
    hours = economics.retrain_minutes / 60
    people = f"{economics.retrain_minutes:g} minutes at prices.engineer_hour, {prices.engineer_hour:g}"
    return Worth(
        loss,
        prices.currency,
        _value(economics),
        rows_a_day,
        _machine(runs),
        Figure(hours * prices.engineer_hour, _stated(economics, "retrain_minutes"), people),
        Figure(economics.release_risk, _stated(economics, "release_risk"), "for each release"),
    )


def _value(economics: Economics) -> Figure:
    if economics.money is not None:
        stated = "by_class" if economics.decisions is None else "decisions"
        return Figure(1.0, "yours", f"economics.{stated} has the money of each row")
    if economics.value is not None:
        return Figure(economics.value, "yours", "economics.value")
    return Figure(GUESSED_VALUE, "guess", "nobody stated economics.value")


def _machine(runs: Sequence[RunCosts]) -> Figure:
    whole = [run.cost for run in runs if any(s.step == MADE_A_VERSION and s.state == "success" for s in run.steps)]
    if not whole:
        return Figure(GUESSED_RUN, "guess", "the ledger has no whole run of this model")
    return Figure(statistics.median(whole), "measured", f"the median of {len(whole)} whole runs in the ledger")


def _stated(economics: Economics, key: str) -> Known:
    return "yours" if key in economics.model_fields_set else "guess"
