"""The frame that a hook returns as the table `rows`.

DuckDB looks at a sample of a column of Python objects and then converts all of it to what it found. So such columns are converted
here, each by all of its cells. A column that mixes text, numbers and truth values becomes text, cell by cell, and is read by the
same rule as a CSV's; any other mixture is refused.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from numbers import Integral, Real
from typing import Any
from uuid import UUID

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.errors import DataError


def write_rows(connection: duckdb.DuckDBPyConnection, frame: pd.DataFrame, hook: str) -> None:
    """Writes `frame` into the table `rows`. Raises DataError for a column of objects that have no type in common."""
    frame = frame.rename(columns=str)
    _refuse_names(frame, hook)
    objects = [column for column in frame.columns if frame[column].dtype == object]
    views: dict[str, Any] = {"hook_rows": frame.drop(columns=objects)}
    if objects:
        views["hook_objects"] = pa.table({column: _converted(frame[column], hook) for column in objects})
    # A view of no columns is none to DuckDB, unless the hook returned no column at all.
    used = [name for name, view in views.items() if view.shape[1]] or ["hook_rows"]
    for name in used:
        connection.register(name, views[name])
    connection.execute(f"CREATE OR REPLACE TEMP TABLE rows AS SELECT * FROM {' POSITIONAL JOIN '.join(used)}")
    for name in used:
        connection.unregister(name)


def _refuse_names(frame: pd.DataFrame, hook: str) -> None:
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise DataError(f"hook {hook}", f"returned the column {twice[0]} twice", "rename one of them")


def _converted(column: pd.Series, hook: str) -> pa.Array:
    missing = column.isna().to_numpy()
    cells = [None if gone else cell for cell, gone in zip(column, missing, strict=True)]
    kinds = {type(cell) for cell in cells} - {type(None)}
    try:
        if all(issubclass(kind, str) for kind in kinds):
            return pa.array(cells, pa.string())
        if any(issubclass(kind, datetime) for kind in kinds) and all(issubclass(kind, datetime) for kind in kinds):
            return _times(cells)
        if all(issubclass(kind, str | UUID | bool | np.bool_ | Real | Decimal) for kind in kinds) and len(kinds) > 1:
            truth_as_number = not any(issubclass(kind, str | UUID) for kind in kinds)
            return pa.array([_text(cell, truth_as_number) for cell in cells], pa.string())
        if kinds == {int} and any(abs(cell) >= 2**63 for cell in cells if cell is not None):
            return pa.array([_text(cell, False) for cell in cells], pa.string())
        if kinds == {UUID}:
            return pa.array([_text(cell, False) for cell in cells], pa.string())
        if len(kinds) == 1:
            return pa.array(cells)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        pass
    names = " and ".join(sorted(kind.__name__ for kind in kinds))
    raise DataError(f"hook {hook}", f"returned {names} in column {column.name}", "return cells of one type in it")


def _times(cells: list[Any]) -> pa.Array:
    """Raises ValueError when some have a zone and others none."""
    with_zone = {cell.tzinfo is not None for cell in cells if cell is not None}
    if len(with_zone) > 1:
        raise ValueError
    return pa.array(cells, pa.timestamp("us", tz="UTC" if with_zone == {True} else None))


def _text(cell: Any, truth_as_number: bool) -> str | None:
    """One text for one value: 2 and 2.0 are "2"."""
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, bool | np.bool_):
        return str(int(cell)) if truth_as_number else str(bool(cell)).lower()
    if isinstance(cell, Integral | UUID):
        return str(cell)
    exact = cell if isinstance(cell, Decimal) else Decimal(repr(float(cell)))
    if not exact.is_finite():
        return str(cell)
    plain = f"{exact:f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain
