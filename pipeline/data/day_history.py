"""Compares the newest days of a window with the days before them: the number of rows, and the missing values of each column.

A renamed column gives NULL in each row of a day, and need not break any rule for single rows. The history begins at the first
day that has rows: days before it are no outage, because the data did not exist yet.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pandas as pd

from pipeline.settings.models import Model

# The days of a week differ, so a shorter history does not show what is usual.
HISTORY_DAYS = 7
# The usual share of values of a column is what it reaches on all days but this share.
EXCEPTIONAL_DAYS = 0.05
# A column with a smaller usual share, or with fewer usual values a day, can be empty on a quiet day by chance.
MIN_USUAL_SHARE, MIN_USUAL_VALUES = 0.2, 10


def unusual_days(rows_a_day: dict[str, int], model: Model) -> dict[str, Any]:
    """The held-out days whose number of rows is outside the contract's `rows_a_day`, in multiples of the usual number.

    Returns {"history": number of days before them, "median": rows of a usual day, "off": {day: rows}}. A day without rows
    counts as 0. Without `rows_a_day`, or with a history shorter than a week, the median is None and "off" is empty.
    """
    limits = model.gates.contract.rows_a_day
    before, newest = _days(rows_a_day, model)
    if limits is None or len(before) < HISTORY_DAYS:
        return {"history": len(before), "median": None, "off": {}}
    usual = float(pd.Series([rows_a_day.get(day, 0) for day in before]).median())
    off = {day: rows_a_day.get(day, 0) for day in newest}
    off = {day: rows for day, rows in off.items() if not limits[0] * usual <= rows <= limits[1] * usual}
    return {"history": len(before), "median": usual, "off": off}


def no_label_key(model: Model) -> str:
    """The name under which `missing_a_day` counts rows that have no label at all."""
    target, label_time = model.training.target, model.source.label_time
    return f"{target} and {label_time}" if label_time else target


def missing_values(counts: dict[str, Any], model: Model) -> list[dict[str, Any]]:
    """The columns that on a held-out day lack more than the contract's `missing_a_day` of the values they usually have.

    `counts` are the snapshot's. Returns [{"day", "column", "missing", "rows", "share", "usual": share of missing values on
    the days before}]. The newest days without any label are left out, because their labels may still come.
    """
    before, newest = _days(counts["rows_a_day"], model)
    if len(before) < HISTORY_DAYS:
        return []
    before, newest = ([day for day in days if day in counts["rows_a_day"]] for days in (before, newest))
    gaps = {day: counts["missing_a_day"].get(day, {}) for day in (*before, *newest)}
    findings = []
    for column in sorted({column for day in newest for column in gaps[day]}):
        shares = [_missing_share(gaps[day].get(column)) for day in before]
        usual = float(pd.Series(shares).quantile(1 - EXCEPTIONAL_DAYS))
        lacking = [
            day for day in newest if _lacks_values(gaps[day].get(column), 1 - usual, model.gates.contract.missing_a_day)
        ]
        if column == no_label_key(model):
            lacking = _without_newest(lacking, newest)
        for day in lacking:
            missing, rows = gaps[day][column]
            counted = {"missing": missing, "rows": rows}
            findings.append({"day": day, "column": column, **counted, "share": missing / rows, "usual": usual})
    return findings


def _missing_share(gap: tuple[int, int] | None) -> float:
    return gap[0] / gap[1] if gap else 0.0


def _lacks_values(gap: tuple[int, int] | None, usual_share: float, limit: float) -> bool:
    if gap is None or usual_share < MIN_USUAL_SHARE or gap[1] * usual_share < MIN_USUAL_VALUES:
        return False
    return 1 - _missing_share(gap) < (1 - limit) * usual_share


def _without_newest(days: list[str], newest: list[str]) -> list[str]:
    """`days` up to the last day of `newest` that is not among them: the days after it are left out."""
    younger = [day for day in newest if day not in days]
    return [day for day in days if younger and day < younger[-1]]


def _days(rows_a_day: dict[str, int], model: Model) -> tuple[list[str], list[str]]:
    """(days before the held-out days, held-out days): the whole days of the window from the first one that has rows."""
    start, end = model.as_of - timedelta(days=model.source.window_days), model.as_of
    whole = pd.date_range(pd.Timestamp(start).ceil("D"), pd.Timestamp(end).floor("D"), inclusive="left")
    held_out = pd.Timestamp(model.held_out_from)
    first = min(rows_a_day, default="")
    days = [(day, f"{day:%Y-%m-%d}") for day in whole if f"{day:%Y-%m-%d}" >= first]
    return [name for day, name in days if day < held_out], [name for day, name in days if day >= held_out]
