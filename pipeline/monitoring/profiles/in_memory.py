"""Counts a table in memory into profiles: the same cells as `counting.profiles` finds by SQL, without handing the table over."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date

import numpy as np
import pandas as pd

from pipeline.monitoring.profiles.file_columns import FileColumns
from pipeline.monitoring.profiles.layout import ColumnLayout, Layout, Table, as_float, difference
from pipeline.monitoring.profiles.profile import Profile
from pipeline.monitoring.profiles.slices import Slice


def by_day(rows: Table, layout: Layout, days: pd.Series) -> dict[date, Profile]:
    """The profile of each day, in the order of time; `days` has a time without a zone for each row, NaT for a row that is not counted."""
    if days.isna().any():
        there = days.notna().to_numpy()
        rows, days = rows.rows_of(there) if isinstance(rows, FileColumns) else rows[there], days.dropna()
    different, of_row = np.unique(days.to_numpy("datetime64[D]"), return_inverse=True)
    counted = np.bincount(of_row, minlength=len(different)).tolist()
    cells = _cells(rows, layout, None, of_row, len(different))
    return {
        at: Profile(counted[place], {name: counts[place] for name, counts in cells.items()})
        for place, at in enumerate(different.tolist())
    }


def profile_of(rows: Table, layout: Layout, learnt: Mapping[str, Collection[str]] | None = None) -> Profile:
    """The profile of all rows. `learnt` has the categories that a model knows, by column; without them none counts as unknown."""
    cells = _cells(rows, layout, learnt, np.zeros(len(rows), np.int64), 1)
    return Profile(len(rows), {name: counts[0] for name, counts in cells.items()})


def _cells(
    rows: Table,
    layout: Layout,
    learnt: Mapping[str, Collection[str]] | None,
    of_row: np.ndarray,
    days: int,
) -> dict[str, np.ndarray]:
    """The counts of each column that the rows have, int64 (days, cells); `of_row` is the day's place of each row."""
    found = {}
    in_slice: dict[Slice, np.ndarray] = {}
    same: dict[str, list[ColumnLayout]] = {}
    for column in layout.columns:
        if column.needs <= {*rows.columns}:
            same.setdefault(column.feature, []).append(column)
    for columns in same.values():
        # The cell of each row, once for all slices.
        places = _of_number(rows, columns[0]) if columns[0].kind == "number" else _of_category(rows, columns[0], learnt)
        for column in columns:
            day, place = of_row, places
            if column.where is not None:
                if column.where not in in_slice:
                    in_slice[column.where] = np.flatnonzero(_is_in(rows, column.where))
                day, place = (of[in_slice[column.where]] for of in (of_row, places))
            counts = np.bincount(day * column.cells + place, minlength=days * column.cells)
            found[column.name] = counts.reshape(days, column.cells)
    return {column.name: found[column.name] for column in layout.columns if column.name in found}


def _is_in(rows: Table, where: Slice) -> np.ndarray:
    """Which rows are in the slice, bool (rows,)."""
    if where.value is not None:
        return (_texts(rows[where.column]) == where.value).fillna(False).to_numpy(bool)
    values = as_float(rows[where.column])
    return (values > where.above) & (values <= where.upto)


def _of_number(rows: Table, column: ColumnLayout) -> np.ndarray:
    """The cell of each row, int64 (rows,)."""
    values = difference(rows, column.of) if column.of else as_float(rows[column.feature])
    cells = np.searchsorted(np.array(column.edges, "float64"), values, side="left")
    cells[np.isnan(values)] = column.special("missing")
    cells[values == -np.inf] = column.special("minus_infinity")
    cells[values == np.inf] = column.special("plus_infinity")
    return cells


def _of_category(rows: Table, column: ColumnLayout, learnt: Mapping[str, Collection[str]] | None) -> np.ndarray:
    """The cell of each row, int64 (rows,). A category is looked up once, however many rows have it."""
    codes, different = pd.factorize(_texts(rows[column.feature]))
    rest = len(column.top)
    known = dict.fromkeys((learnt or {}).get(column.feature) or (), rest)
    known |= {value: code for code, value in enumerate(column.top)}
    other = rest if (learnt or {}).get(column.feature) is None else column.special("unknown")
    # The last one is of the code -1, which a missing value has.
    of_code = [*(known.get(value, other) for value in different), column.special("missing")]
    return np.array(of_code, np.int64)[codes]


def _texts(cells: pd.Series) -> pd.Series:
    if pd.api.types.infer_dtype(cells, skipna=True) == "string":
        return cells
    # As objects 1 and True are equal, and not the same text.
    return cells.astype(object).map(str, na_action="ignore")
