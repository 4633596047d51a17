"""Are there enough rows, and few enough that break the contract?"""

from __future__ import annotations

from typing import Any

from pipeline.data.contract import faults_line
from pipeline.data.day_history import HISTORY_DAYS
from pipeline.gates.base import Verdict
from pipeline.settings.models import Contract

# So many are named; the report has all.
FIRST = 5


def enough_rows(report: dict[str, Any], contract: Contract) -> Verdict:
    kept = report["kept"]
    return Verdict(
        "enough_rows",
        kept >= contract.min_rows,
        kept,
        contract.min_rows,
        f"{kept:,} rows kept, at least {contract.min_rows:,} wanted",
    )


def few_bad_rows(report: dict[str, Any], contract: Contract) -> Verdict:
    share = report["quarantined"] / report["in"]
    reason = f"{report['quarantined']:,} of {report['in']:,} rows break the contract ({share:.2%})"
    if report["faults"]:
        reason += f": {faults_line(report)}"
    return Verdict("data_contract", share <= contract.max_bad_share, share, contract.max_bad_share, reason)


def usual_days(report: dict[str, Any], contract: Contract) -> Verdict:
    """Do the newest days bring about as many rows as the days before them? Without a history nobody can say: it passes."""
    low, high = contract.rows_a_day or (0.0, float("inf"))
    median, off = report["days"]["median"], report["days"]["off"]
    if median is None:
        short = f"no verdict: {report['days']['history']} days of data before the held-out ones, {HISTORY_DAYS} wanted"
        return Verdict("rows_a_day", True, 0, 0, short)
    wanted = f"{low:g} to {high:g} times the usual {median:,.0f} rows a day"
    listed = ", ".join(f"{day}: {rows:,}" for day, rows in list(off.items())[:3])
    reason = f"{len(off)} held-out days are out of it ({listed})" if off else "every held-out day is"
    return Verdict("rows_a_day", not off, len(off), 0, f"{wanted}: {reason}")


def values_as_usual(report: dict[str, Any], contract: Contract) -> Verdict:
    """Have the newest days values where the days before them have?"""
    limit, gone = contract.missing_a_day, report["missing"]
    listed = ", ".join(
        f"{g['column']} on {g['day']}: {g['share']:.0%} of {g['rows']:,} rows lack it, usually at most {g['usual']:.0%}"
        for g in gone[:FIRST]
    )
    more = f" and {len(gone) - FIRST} more" if len(gone) > FIRST else ""
    reason = f"{listed}{more}; was a column renamed?" if gone else "every held-out day has the values that days have"
    return Verdict("missing_values", not gone, len(gone), 0, f"at most {limit:.0%} of the usual ones missing: {reason}")
