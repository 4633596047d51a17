"""The newest days of a window against the days before them: do they bring as many rows, and the values that rows have?

A day's file whose column was renamed brings all its rows, and NULL in each: no rule for single rows need break. History begins at the first day that has rows: before it there was no data, which is no outage.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pandas as pd

from pipeline.settings.models import Model

# Fewer days before the held-out ones say nothing about what is usual: a week has its own shape.
HISTORY_DAYS = 7
# What a column has on nearly every day: all but one in twenty. A share under REGULAR, of a column that is empty on
# quiet days by nature, or fewer than so many values a day, would be chance.
NEARLY_EVERY_DAY, REGULAR, ENOUGH_VALUES = 0.05, 0.2, 10


def unusual_days(rows_a_day: dict[str, int], model: Model) -> dict[str, Any]:
    """The held-out days whose number of rows is out of proportion to the days before them.

    {"history": days before them, "median": rows of a usual one, "off": {day: rows}}. A day without rows counts as 0.
    The median is None, and no day is off, when `rows_a_day` is not in the contract or history is shorter than a week.
    """
    limits = model.gates.contract.rows_a_day
    before, newest = _days(rows_a_day, model)
    if limits is None or len(before) < HISTORY_DAYS:
        return {"history": len(before), "median": None, "off": {}}
    usual = float(pd.Series([rows_a_day.get(day, 0) for day in before]).median())
    off = {day: rows_a_day.get(day, 0) for day in newest}
    off = {day: rows for day, rows in off.items() if not limits[0] * usual <= rows <= limits[1] * usual}
    return {"history": len(before), "median": usual, "off": off}


def no_label(model: Model) -> str:
    """What a row without any label is counted under."""
    target, label_time = model.training.target, model.source.label_time
    return f"{target} and {label_time}" if label_time else target


def gone_missing(counts: dict[str, Any], model: Model) -> list[dict[str, Any]]:
    """The columns of which a held-out day lacks more than the share `missing_a_day` of the values they usually have.

    `counts` are the snapshot's. Returns [{"day", "column", "missing", "rows", "share", "usual": share of missing values
    on the days before}]. The newest days without any label are left out: theirs may be still to come.
    """
    before, newest = _days(counts["rows_a_day"], model)
    if len(before) < HISTORY_DAYS:
        return []
    before, newest = ([day for day in days if day in counts["rows_a_day"]] for days in (before, newest))
    gaps = {day: counts["missing_a_day"].get(day, {}) for day in (*before, *newest)}
    found = []
    for column in sorted({column for day in newest for column in gaps[day]}):
        shares = [_share(gaps[day].get(column)) for day in before]
        usual = float(pd.Series(shares).quantile(1 - NEARLY_EVERY_DAY))
        lacking = [
            day for day in newest if _lacks(gaps[day].get(column), 1 - usual, model.gates.contract.missing_a_day)
        ]
        if column == no_label(model):
            lacking = _but_the_last(lacking, newest)
        for day in lacking:
            missing, rows = gaps[day][column]
            told = {"missing": missing, "rows": rows, "share": missing / rows, "usual": usual}
            found.append({"day": day, "column": column, **told})
    return found


def _share(gap: tuple[int, int] | None) -> float:
    return gap[0] / gap[1] if gap else 0.0


def _lacks(gap: tuple[int, int] | None, usually_there: float, limit: float) -> bool:
    if gap is None or usually_there < REGULAR or gap[1] * usually_there < ENOUGH_VALUES:
        return False
    return 1 - _share(gap) < (1 - limit) * usually_there


def _but_the_last(days: list[str], newest: list[str]) -> list[str]:
    """`days` without those after which no other comes."""
    younger = [day for day in newest if day not in days]
    return [day for day in days if younger and day < younger[-1]]


def _days(rows_a_day: dict[str, int], model: Model) -> tuple[list[str], list[str]]:
    """(the days before the held-out ones, the held-out days): whole days of the window from the first that has rows."""
    start, end = model.as_of - timedelta(days=model.source.window_days), model.as_of
    whole = pd.date_range(pd.Timestamp(start).ceil("D"), pd.Timestamp(end).floor("D"), inclusive="left")
    held_out = pd.Timestamp(end - timedelta(days=model.evaluation.holdout_days))
    first = min(rows_a_day, default="")
    days = [(day, f"{day:%Y-%m-%d}") for day in whole if f"{day:%Y-%m-%d}" >= first]
    return [name for day, name in days if day < held_out], [name for day, name in days if day >= held_out]
