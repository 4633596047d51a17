"""Train/serve skew: a change that the log shows, and the source's rows of the same days do not.

A retrain learns from the source's rows, so it cures no such change. Where rows can be joined by key and time, the joined rows of both sides
are compared with what the version learnt from, each by itself, with the limits of the look. Where they cannot, or too few, it is all
requests and all rows of the days that the source has; so rows that land late are no skew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import pandas as pd

from pipeline.monitoring.change_shape import alike
from pipeline.monitoring.drift import DriftVerdict, FeatureDrift
from pipeline.monitoring.label_join import TIME, pairs

# A source that is away from the reference by less than this share of the log's distance does not show the log's change.
SHOWN = 0.5
Compare = Callable[[pd.DataFrame], DriftVerdict]


@dataclass(frozen=True)
class Skew:
    """Of the features that moved in the log: `serving` did not move in the source's rows, `source` did there too, and of `unknown` it is
    not known, for the reason `why`. `rows` of the source were compared, each with its own request where they are `joined`."""

    serving: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    rows: int = 0
    joined: bool = False
    why: str = ""

    @property
    def only_serving(self) -> bool:
        """Whether all of the change is on the serving side."""
        return bool(self.serving) and not self.source and not self.unknown

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        of = "of the same requests" if self.joined else "of the same days"
        rows = f"the source's {self.rows:,} rows {of}"
        told = []
        if self.only_serving:
            told.append(f"train/serve skew on the serving side: {rows} do not show it")
        elif self.serving:
            told.append(f"train/serve skew in {', '.join(self.serving)}: {rows} do not show it")
        if self.source:
            told.append(f"{rows} show {', '.join(self.source) if self.serving or self.unknown else 'it too'}")
        if self.unknown:
            of_some = f" of {', '.join(self.unknown)}" if told else ""
            told.append(f"whether it is train/serve skew{of_some} is not known: {self.why}")
        return "; ".join(told)


def looked_for(
    drift: DriftVerdict,
    requests: pd.DataFrame,
    source: pd.DataFrame,
    compare: Compare,
    tolerance: timedelta,
    fewest: int,
) -> Skew:
    """Where the change of `drift`, which `requests` show, is to be seen. `source` has the rows of the same window (see source_window), and
    `compare` judges a table by the limits of the look; `fewest` rows are enough for it."""
    together = _of_same_requests(requests, source, tolerance)
    joined = together is not None and len(together[0]) >= fewest
    compared, rows = together if together is not None and joined else _of_same_days(requests, source)
    moved = tuple(feature.feature for feature in drift.moved)
    if source.empty:
        return unknown(drift, "the source has no rows of these days yet")
    if min(len(compared), len(rows)) < fewest:
        why = f"{len(rows):,} rows of the source and {len(compared):,} requests are of days that it has, {fewest:,} required (monitor.min_rows)"
        return unknown(drift, why)
    # Of all requests the look's own verdict is there already.
    log = _by_name(drift if len(compared) == len(requests) else compare(compared))
    there = _by_name(compare(rows))
    sides = {name: _side(log.get(name), there.get(name)) for name in moved}

    def on(side: str) -> tuple[str, ...]:
        return tuple(name for name in moved if sides[name] == side)

    why = "the requests that the source has rows for do not show the change" if on("unknown") else ""
    return Skew(on("serving"), on("source"), on("unknown"), len(rows), joined, why)


def unknown(drift: DriftVerdict, why: str) -> Skew:
    """Nothing can be told."""
    return Skew(unknown=tuple(feature.feature for feature in drift.moved), why=why)


def _side(log: FeatureDrift | None, source: FeatureDrift | None) -> str:
    if log is None or source is None or not log.moved:
        return "unknown"
    same_way = alike(log.shape, source.shape)
    if source.moved:
        return "source" if same_way else "serving"
    if not source.judged:
        return "unknown"
    return "source" if same_way and source.times_limit >= SHOWN * log.times_limit else "serving"


def _by_name(verdict: DriftVerdict) -> Mapping[str, FeatureDrift]:
    return {feature.feature: feature for feature in verdict.every}


def _of_same_requests(
    requests: pd.DataFrame, source: pd.DataFrame, tolerance: timedelta
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Requests and rows that belong together, side by side; None where the source has no key."""
    if "key" not in source.columns:
        return None
    asked = requests.dropna(subset=["key"]).astype({"key": "str"})
    rows = source.dropna(subset=["key"]).astype({"key": "str"})
    rows = rows.drop_duplicates(["key", "event_time"]).reset_index(drop=True)
    if asked.empty or rows.empty:
        return asked.head(0), rows.head(0)
    request, row = pairs(asked, rows, tolerance)
    return asked.iloc[request], rows.iloc[row]


def _of_same_days(requests: pd.DataFrame, source: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The requests of the days that the source has rows of, up to its newest row; and all its rows."""
    if requests.empty or source.empty:
        return requests.head(0), source
    at, there = requests["event_time"].astype(TIME), source["event_time"].astype(TIME)
    covered = at.dt.floor("D").isin(there.dt.floor("D").unique()) & (at <= there.max())
    return requests[covered.to_numpy()], source
