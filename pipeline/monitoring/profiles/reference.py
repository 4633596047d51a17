"""The reference of a model: the profiles of the days that it learnt from. It is kept in the file of the reference's sample.

So it has the sample's digest, and goes wherever the sample goes. A file from before profiles has none: then the sample itself is counted.
"""

from __future__ import annotations

import base64
import gzip
import json
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.monitoring.profiles import in_memory
from pipeline.monitoring.profiles.layout import VERSION, ColumnLayout, Layout, Table, layout_of
from pipeline.monitoring.profiles.profile import Profile, total
from pipeline.monitoring.profiles.slicing import with_slices

KEPT = b"perennial.profiles"
# What is known of the version that learnt from it, beside the profiles.
OF_VERSION = ("importances", "quality", "answers", "newcomers")
# Days that are further back are kept by weeks: so many are enough to say how days differ. They are whole weeks.
MOST_DAYS = 798


@dataclass(frozen=True)
class Reference:
    """`days` are in the order of time; a table without times has its blocks of rows in their order, under made-up days, and `timed` is False.

    `importances` are those of the version that learnt from it, by feature; `quality` is its estimated_quality.QualityModel as a dict,
    `answers` what answer_shift keeps of its answers to the held-out rows. `newcomers` has of each category the share of its held-out values that the rows before
    never had. They are empty where nobody measured them. `of_hours` says that the days
    have the rows of some hours alone (see at_hours).
    """

    layout: Layout
    days: dict[date, Profile]
    timed: bool = True
    importances: Mapping[str, float] = field(default_factory=dict)
    quality: Mapping[str, Any] = field(default_factory=dict)
    answers: Mapping[str, Any] = field(default_factory=dict)
    newcomers: Mapping[str, float] = field(default_factory=dict)
    of_hours: bool = False

    @cached_property
    def whole(self) -> Profile:
        return total(self.days.values(), self.layout)

    @cached_property
    def by_day(self) -> np.ndarray:
        """The counts of all columns' cells side by side, (days, cells) float64."""
        columns = [column.name for column in self.layout.columns]
        return np.array([np.concatenate([p.cells[name] for name in columns]) for p in self.days.values()], float)

    @cached_property
    def rows(self) -> int:
        return sum(profile.rows for profile in self.days.values())

    def part(self, columns: Sequence[ColumnLayout]) -> Reference:
        """The same days with these columns of its layout."""
        return self if len(columns) == len(self.layout.columns) else replace(self, layout=Layout(tuple(columns)))

    def only(self, names: Sequence[str]) -> Reference:
        """The profiles of these columns and of their differences."""
        layout = self.layout.only(names)
        kept = [column.name for column in layout.columns]
        days = {at: Profile(p.rows, {n: p.cells[n] for n in kept if n in p.cells}) for at, p in self.days.items()}
        return replace(self, layout=layout, days=days)

    def at_hours(self, rows: Table, times: pd.Series, start: datetime, end: datetime) -> Reference:
        """The reference by those of its `rows`, which have the `times`, whose hour of the day a window [start, end) of less than a day has: a night is
        like other nights, and like no whole day."""
        days = days_of(times)
        same = (pd.to_datetime(times, utc=True) - start) % pd.Timedelta(days=1) <= end - start
        found = in_memory.by_day(rows, self.layout, kept_under(days).where(same)) if same.any() else {}
        return replace(self, days=found, of_hours=True)

    def sliced_by(self, names: Sequence[str], rows: Callable[[], Reference]) -> Reference:
        """The reference with the slices of these columns alone. Those that it lacks, as of a version that is older than the settings, are those of
        `rows`: a reference of a sample of what it learnt from, in any layout with them."""
        layout = self.layout.sliced_by(names)
        there = {column.where.column for column in layout.columns if column.where}
        own = {column.name for column in layout.columns}
        if not {*names} <= there:
            sample = rows()
            more = [c for c in sample.layout.columns if c.where and c.where.column not in there and c.base in own]
            return self._with(Layout((*layout.columns, *more)), sample)
        return self if len(layout.columns) == len(self.layout.columns) else self._with(layout, None)

    def _with(self, layout: Layout, sample: Reference | None) -> Reference:
        """Of the columns of `layout`. Those that only the `sample` has are counted by its days."""
        names = {column.name for column in layout.columns}
        more = {column.name: column.cells for column in layout.columns if column not in self.layout.columns}
        days = {}
        for at, profile in self.days.items():
            kept = {name: cells for name, cells in profile.cells.items() if name in names}
            days[at] = Profile(profile.rows, {**kept, **{name: np.zeros(n, np.int64) for name, n in more.items()}})
        there = sorted(days)
        for at, of_sample in (sample.days if sample and there else {}).items():
            # Of weeks the sample may have days.
            cells = days[there[max(bisect_right(there, at) - 1, 0)]].cells
            for name in more:
                cells[name][:] += of_sample.cells[name]
        return replace(self, layout=layout, days=days)

    def as_text(self) -> str:
        days = {
            at.isoformat(): [profile.rows, {name: cells.tolist() for name, cells in profile.cells.items()}]
            for at, profile in self.days.items()
        }
        of_version = {name: getattr(self, name) for name in OF_VERSION}
        values = {**self.layout.as_dict(), "timed": self.timed, **of_version, "days": days}
        return json.dumps(values, separators=(",", ":"))

    @classmethod
    def read_text(cls, text: str) -> Reference | None:
        """None for profiles of another version."""
        values = json.loads(text)
        if values.get("version") != VERSION:
            return None
        days = {
            date.fromisoformat(at): Profile(rows, {name: np.array(counts, np.int64) for name, counts in cells.items()})
            for at, (rows, cells) in values["days"].items()
        }
        of_version = {name: values.get(name, {}) for name in OF_VERSION}
        return cls(Layout.read(values), days, values["timed"], **of_version)


def reference_of(
    rows: Table,
    numeric: Sequence[str],
    categorical: Sequence[str],
    times: pd.Series | None,
    by: Sequence[str] = (),
) -> Reference:
    """The reference of a table in memory, or in files, with the slices that the columns `by` form. Without `times` its rows are cut into blocks, in their
    order."""
    layout = drawn(rows, numeric, categorical, by)
    if rows.empty:
        return Reference(layout, {}, times is not None)
    days = kept_under(days_of(times)) if times is not None else _blocks(len(rows))
    return Reference(layout, in_memory.by_day(rows, layout, days), times is not None)


def drawn(rows: Table, numeric: Sequence[str], categorical: Sequence[str], by: Sequence[str] = ()) -> Layout:
    """The layout that the rows of a reference fix, with the slices that the columns `by` form."""
    layout = layout_of(rows, numeric, categorical)
    if not by:
        return layout
    named = Layout(tuple(column for column in layout.columns if column.name in by))
    return with_slices(layout, in_memory.profile_of(rows, named), by)


def days_of(times: pd.Series) -> pd.Series:
    """The day of each row in UTC, without a zone."""
    return pd.to_datetime(times, utc=True).dt.tz_localize(None).dt.floor("D")


def kept_under(days: pd.Series) -> pd.Series:
    """The day that each of the days is counted under: itself, or of more than MOST_DAYS before the newest one the first of its week. Weeks
    are counted back from the newest day, so that only the oldest one can be a part."""
    ago = (days.max() - days).dt.days
    week = days.max() - pd.to_timedelta(ago // 7 * 7 + 6, unit="D")
    return days.where(ago < MOST_DAYS, week.clip(lower=days.min()))


def _blocks(rows: int) -> pd.Series:
    """26 blocks of neighbours, each under a week of its own: who writes a file writes neighbours together."""
    block = np.arange(rows) * min(26, rows) // rows
    return pd.Series(pd.Timestamp("2000-01-03") + pd.to_timedelta(7 * block, unit="D"))


def keep_in(file: Path, reference: Reference) -> None:
    """Writes the profiles into the file of the reference's sample (Parquet)."""
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    # Of the time of its making a file's digest may say nothing.
    packed = base64.b64encode(gzip.compress(reference.as_text().encode(), mtime=0))
    pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), KEPT: packed}), file)


def kept_in(file: Path) -> Reference | None:
    """The profiles in the file of a sample; None when it has none of this version."""
    import pyarrow.parquet as pq

    packed = (pq.read_schema(file).metadata or {}).get(KEPT)
    return Reference.read_text(gzip.decompress(base64.b64decode(packed)).decode()) if packed else None
