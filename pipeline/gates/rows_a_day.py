"""Do the held-out days have about as many rows as the days before them?"""

from __future__ import annotations

from pipeline.data.day_history import HISTORY_DAYS
from pipeline.gates.base import ValidatedData, Verdict

# The reason names at most this many days; the validation report has all of them.
NAMED_DAYS = 3


def verdict(data: ValidatedData) -> Verdict | None:
    """None without `gates.contract.rows_a_day`. Passes when the history is too short to compare with."""
    if data.model.gates.contract.rows_a_day is None:
        return None
    low, high = data.model.gates.contract.rows_a_day
    days = data.validation["days"]
    median, off = days["median"], days["off"]
    if median is None:
        short = (
            f"{days['history']} days of data before the held-out ones, {HISTORY_DAYS} required; a later as-of has more"
        )
        return Verdict("rows_a_day", True, 0, 0, short, judged=False)
    usual = f"{low:g} to {high:g} times the usual {median:,.0f} rows a day"
    named = ", ".join(f"{day}: {rows:,}" for day, rows in list(off.items())[:NAMED_DAYS])
    reason = f"{len(off)} held-out days are outside ({named})" if off else "every held-out day is within"
    return Verdict("rows_a_day", not off, len(off), 0, f"{usual}: {reason}")
