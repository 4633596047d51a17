"""Compares two samples feature by feature.

Values: population stability index, computed by Evidently with the method pinned (its defaults change with
the number of rows). PSI is biased upwards in small samples by about (k - 1)(1/n + 1/m) for k bins and n and
m rows (Yurdakul & Naranjo 2020, Statistical properties of the PSI), so that much is added to the limit.
Missing values are invisible to PSI; the change of their share is judged beside it.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

# Bins that Evidently makes of a number, at most.
NUMBER_BINS = 30


@dataclass(frozen=True)
class FeatureDrift:
    """One feature: its PSI against its limit, and the shares (0 to 1) of missing values."""

    feature: str
    psi: float | None
    psi_limit: float
    missing_before: float
    missing_now: float
    moved: bool
    reason: str


@dataclass(frozen=True)
class DriftVerdict:
    """What the comparison says. `no verdict` is neither drift nor its absence."""

    verdict: Literal["drift", "no drift", "no verdict"]
    reason: str
    rows_before: int
    rows_now: int
    features: tuple[FeatureDrift, ...] = ()

    @property
    def moved(self) -> list[FeatureDrift]:
        """The features that moved, most moved first."""
        return sorted((f for f in self.features if f.moved), key=lambda f: -(f.psi or float("inf")))

    def as_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "features": [asdict(f) for f in self.features],
            "moved": [f.feature for f in self.moved],
        }


@dataclass(frozen=True)
class Limits:
    """When a feature has moved, when so many are drift, and how many rows a verdict takes."""

    psi: float = 0.2
    missing: float = 0.1
    features: int = 1
    min_rows: int = 1000
    sample_rows: int = 10_000


def compare(
    before: pd.DataFrame,
    now: pd.DataFrame,
    numeric: list[str],
    categorical: list[str],
    limits: Limits,
    report: Path | None = None,
) -> DriftVerdict:
    """Judges `now` against `before`, column by column; writes Evidently's picture to `report` (HTML)."""
    few = min(len(before), len(now))
    if few < limits.min_rows:
        return DriftVerdict(
            "no verdict",
            f"{len(now):,} rows now and {len(before):,} before, at least {limits.min_rows:,} of each wanted",
            len(before),
            len(now),
        )
    wanted = [*numeric, *categorical]
    gone = [c for c in wanted if c not in now.columns or c not in before.columns]
    if gone:
        return DriftVerdict("no verdict", f"no column {', '.join(gone)} on both sides", len(before), len(now))
    old, new = (_sample(frame[wanted], numeric, limits.sample_rows) for frame in (before, now))
    judged = [c for c in wanted if min(old[c].notna().sum(), new[c].notna().sum()) >= limits.min_rows / 2]
    psi_limits = {c: limits.psi + _noise(old[c], new[c], c in numeric) for c in judged}
    scores = _psi(
        old, new, [c for c in judged if c in numeric], [c for c in judged if c in categorical], psi_limits, report
    )
    told = tuple(_feature(c, before[c], now[c], scores.get(c), psi_limits.get(c, limits.psi), limits) for c in wanted)
    moved = [f for f in told if f.moved]
    verdict: Literal["drift", "no drift"] = "drift" if len(moved) >= limits.features else "no drift"
    named = ", ".join(f"{f.feature} ({f.reason})" for f in sorted(moved, key=lambda f: -(f.psi or 0.0)))
    reason = f"{len(moved)} of {len(told)} features moved, {limits.features} are drift" + (
        f": {named}" if named else ""
    )
    return DriftVerdict(verdict, reason, len(before), len(now), told)


def _feature(
    name: str, before: pd.Series, now: pd.Series, psi: float | None, psi_limit: float, limits: Limits
) -> FeatureDrift:
    missing = float(before.isna().mean()), float(now.isna().mean())
    reasons = []
    if psi is not None and psi > psi_limit:
        reasons.append(f"PSI {psi:.2f} over {psi_limit:.2f}")
    if abs(missing[1] - missing[0]) > limits.missing:
        reasons.append(f"missing {missing[0]:.0%} before, {missing[1]:.0%} now")
    quiet = "too few values to judge" if psi is None else f"PSI {psi:.2f} within {psi_limit:.2f}"
    return FeatureDrift(name, psi, psi_limit, *missing, bool(reasons), " and ".join(reasons) or quiet)


def _sample(frame: pd.DataFrame, numeric: list[str], rows: int) -> pd.DataFrame:
    taken = frame if len(frame) <= rows else frame.sample(rows, random_state=0)
    numbers = taken[numeric].astype("float64").replace([np.inf, -np.inf], np.nan)
    return taken.assign(**{c: numbers[c] for c in numeric}).reset_index(drop=True)


def _noise(old: pd.Series, new: pd.Series, number: bool) -> float:
    """The PSI that two samples of one distribution have on average."""
    old, new = old.dropna(), new.dropna()
    bins = pd.concat([old, new]).nunique()
    if number:
        bins = min(bins, NUMBER_BINS)
    return (bins - 1) * (1 / len(old) + 1 / len(new))


def _psi(
    old: pd.DataFrame,
    new: pd.DataFrame,
    numeric: list[str],
    categorical: list[str],
    limits: dict[str, float],
    report: Path | None,
) -> dict[str, float]:
    os.environ.setdefault("DO_NOT_TRACK", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import ValueDrift

        columns = [*numeric, *categorical]
        if not columns:
            return {}
        definition = DataDefinition(numerical_columns=numeric, categorical_columns=categorical)
        metrics = [ValueDrift(column=c, method="psi", threshold=limits[c]) for c in columns]
        ran = Report(metrics, include_tests=True).run(
            Dataset.from_pandas(new[columns], data_definition=definition),
            Dataset.from_pandas(old[columns], data_definition=definition),
        )
        if report is not None:
            report.parent.mkdir(parents=True, exist_ok=True)
            ran.save_html(str(report))
    return {m["config"]["column"]: float(m["value"]) for m in ran.dict()["metrics"]}
