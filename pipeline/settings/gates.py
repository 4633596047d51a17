"""Settings of the gates: the limits that a version must keep, and the contract of its data."""

from __future__ import annotations

import json
import math
from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from pipeline.settings.columns import Hook
from pipeline.settings.model_gates import Calibration, Churn, Export, Fairness, Sanity, Slices, SupplyChain
from pipeline.settings.ranges import Range
from pipeline.settings.section import MOST, Section

# A gate of mode `warn` says what it found, and stops nothing; one that is `off` does not run.
Mode = Literal["on", "warn", "off"]

# Our gates, each a file of pipeline/gates/ with this name.
NAMES = (
    "enough_rows",
    "held_out_rows",
    "data_contract",
    "rows_a_day",
    "missing_values",
    "metric_limit",
    "naive_baseline",
    "schema",
    "unknown_categories",
    "unknown_ranges",
    "champion",
    "slices",
    "automatic_slices",
    "fairness",
    "calibration",
    "constant_prediction",
    "perfect_score",
    "leakage",
    "importance_jump",
    "churn",
    "refit",
    "onnx_parity",
    "package_size",
    "one_row_latency",
    "supply_chain",
)


class Column(Section):
    """`gates.contract.columns.NAME`: what a value of the column may be. None allows all; a missing value breaks the
    rule unless `nullable`."""

    type: Literal["number", "integer", "boolean", "text"] | None = None
    min: float | None = None
    max: float | None = None
    allowed: tuple[bool | int | float | str, ...] | None = None
    nullable: bool = False
    # Its values follow the calendar, as a month does: drift leaves it out.
    calendar: bool = False

    def does_not_fit(self, text: bool, listed: str = "") -> str:
        """The part of this rule that does not fit a text column, or a number; '' when all of it fits. `listed` is "datetime" or "text"
        for a column under these keys."""
        if listed:
            given = [name for name in ("type", "min", "max", "allowed") if getattr(self, name) is not None]
            return (
                f"{given[0]}: does not fit a column under training.{listed}; its rules are nullable and calendar"
                if given
                else ""
            )
        if self.type == "text" and not text:
            return f"type: {self.type} does not fit; features under numeric and the target are numbers"
        if text and (self.min is not None or self.max is not None):
            return "min and max: are for numbers, but this column is text"
        if not text and any(isinstance(value, str) for value in self.allowed or ()):
            return "allowed: lists text, but this column holds numbers"
        if self.allowed == ():
            return "allowed: is an empty list, so no value is right"
        if self.min is not None and self.max is not None and self.min > self.max:
            return f"min and max: {self.min:g} is above {self.max:g}, so no value is right"
        return "" if text else self._no_number()

    def _no_number(self) -> str:
        """Which of the rules for a number leave no value, or name one that another rule forbids; '' when they agree."""
        low, high = (-math.inf if self.min is None else self.min), (math.inf if self.max is None else self.max)
        given = [value for value in self.allowed or () if not isinstance(value, str)]
        for value in given:
            if not low <= value <= high:
                return f"allowed: {value} is outside of min and max"
            if self.type == "integer" and value % 1:
                return f"allowed: {value} is no whole number, as type says"
            if self.type == "boolean" and value not in (0, 1):
                return f"allowed: {value} is neither true nor false, as type says"
        if self.type == "boolean" and not (low <= 0 <= high or low <= 1 <= high):
            return "min and max: neither 0 nor 1 is between them, and type is boolean"
        return ""


class Contract(Section):
    """`gates.contract`: rules of single columns, and how many rows they must leave. Shares are from 0 to 1."""

    min_rows: int = Field(default=1, ge=1, le=MOST)
    max_bad_share: float = Field(default=0.0, ge=0, le=1)
    rows_a_day: Range | None = None
    missing_a_day: float = Field(default=0.8, gt=0, le=1)
    columns: dict[str, Column] = Field(default_factory=dict)


class Gates(Section):
    """`models.NAME.gates`. `metric_limit` is in the metric's unit; where that is the target's, margin and tolerance are
    shares of the naive guess's error."""

    metric_limit: float
    baseline_margin: float = 0.0
    champion_tolerance: float = Field(default=0.0, ge=0)
    unknown_share: float = Field(default=0.5, ge=0, le=1)
    unknown_ranges: float = Field(default=0.2, ge=0, le=1)
    parity_tolerance: float = Field(default=1e-4, gt=0, lt=1)
    refit_churn: float = Field(default=1.0, gt=0)
    slices: Slices = Slices()
    fairness: Fairness = Fairness()
    calibration: Calibration = Calibration()
    sanity: Sanity = Sanity()
    churn: Churn = Churn()
    export: Export = Export()
    supply_chain: SupplyChain = SupplyChain()
    # From a gate to its mode; a gate that is not named is on.
    modes: dict[str, Mode] = {}
    # A team's own gates; each reports under this name.
    own: tuple[Hook, ...] = ()
    # How long each of them may take.
    own_minutes: float = Field(default=10, gt=0, le=MOST)
    contract: Contract = Contract()

    @field_validator("modes", mode="before")
    @classmethod
    def modes_are_words(cls, value: Any) -> Any:
        """Says which gate has none: who writes YAML 1.1 has true and false for an `on` and an `off` without quotes."""
        for gate, mode in value.items() if isinstance(value, dict) else ():
            if mode not in get_args(Mode):
                raise ValueError(
                    f"{gate} must be one of {', '.join(get_args(Mode))}; got {json.dumps(mode, default=str)[:40]}"
                )
        return value
