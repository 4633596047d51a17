"""The newest days of a window against the days before them: do they bring as many rows?

History begins at the first day that has rows: before it there was no data, which is no outage.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pandas as pd

from pipeline.params import Model

# Fewer days before the held-out ones say nothing about what is usual: a week has its own shape.
HISTORY_DAYS = 7


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


def _days(rows_a_day: dict[str, int], model: Model) -> tuple[list[str], list[str]]:
    """(the days before the held-out ones, the held-out days): whole days of the window from the first that has rows."""
    start, end = model.as_of - timedelta(days=model.source.window_days), model.as_of
    whole = pd.date_range(pd.Timestamp(start).ceil("D"), pd.Timestamp(end).floor("D"), inclusive="left")
    held_out = pd.Timestamp(end - timedelta(days=model.evaluation.holdout_days))
    first = min(rows_a_day, default="")
    days = [(day, f"{day:%Y-%m-%d}") for day in whole if f"{day:%Y-%m-%d}" >= first]
    return [name for day, name in days if day < held_out], [name for day, name in days if day >= held_out]
