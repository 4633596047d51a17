"""Profiles of days that somebody else has counted, as workers on a server do beside the training: what of them is taken, and what is counted anew.

A profile of another layout, or of other rows than the day has, is not taken. So whoever counted, the reference is the same.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.monitoring.profiles import in_memory
from pipeline.monitoring.profiles.layout import ColumnLayout, Layout, Table
from pipeline.monitoring.profiles.profile import Profile, total
from pipeline.monitoring.profiles.reference import Reference, kept_under

Days = Mapping[date, Profile]


def packed(layout: Layout, days: Days) -> bytes:
    """As a file has them: the same profiles are the same bytes."""
    return gzip.compress(Reference(layout, dict(sorted(days.items()))).as_text().encode(), mtime=0)


def read(folder: Path, layout: Layout) -> dict[date, Profile]:
    """The profiles of that layout in a folder's files. A day that several files have parts of has their sum."""
    found: dict[date, Profile] = {}
    for file in sorted(folder.glob("*")):
        part = Reference.read_text(gzip.decompress(file.read_bytes()).decode())
        if part is not None and part.layout == layout:
            found = added(found, part.days)
    return found


def added(days: Days, more: Days) -> dict[date, Profile]:
    """The sums of the profiles of each day."""
    return {**days, **{at: days[at] + profile if at in days else profile for at, profile in more.items()}}


def sound(known: Days, layout: Layout, rows: Mapping[date, int]) -> dict[date, Profile]:
    """Those of the profiles that can be of the days' rows: as many, in each column; the columns in the order of the layout."""
    found = {}
    for at, profile in known.items():
        if profile.rows == rows.get(at) and all(_adds_up(column, profile) for column in layout.columns):
            found[at] = Profile(profile.rows, {column.name: profile.cells[column.name] for column in layout.columns})
    return found


def _adds_up(column: ColumnLayout, profile: Profile) -> bool:
    cells = profile.cells.get(column.name)
    if cells is None or cells.shape != (column.cells,) or (cells < 0).any():
        return False
    # A slice has some of the rows.
    return bool(cells.sum() == profile.rows if column.where is None else cells.sum() <= profile.rows)


def by_day(rows: Callable[[np.ndarray], Table], layout: Layout, days: pd.Series, known: Days) -> dict[date, Profile]:
    """The profile of each of the `days` (without a zone, one of each row, none missing), in the order of time. `rows` gives those that are to be
    counted, by a mask bool (rows,): of the days that `known` lacks."""
    left = ~days.isin(pd.to_datetime([*known])).to_numpy()
    more = in_memory.by_day(rows(left), layout, days[left]) if left.any() else {}
    return dict(sorted({**known, **more}.items()))


def rows_a_day(days: pd.Series) -> dict[date, int]:
    """How many rows have each day."""
    counts = days.value_counts()
    return dict(zip(counts.index.date, counts.tolist(), strict=True))


def kept(days: Days, layout: Layout) -> dict[date, Profile]:
    """The profiles as a reference keeps them (see kept_under)."""
    under: dict[date, list[Profile]] = {}
    for at, profile in zip(kept_under(pd.Series(pd.to_datetime([*days]))).dt.date, days.values(), strict=True):
        under.setdefault(at, []).append(profile)
    return {at: total(profiles, layout) if len(profiles) > 1 else profiles[0] for at, profiles in under.items()}
