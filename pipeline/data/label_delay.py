"""The label delay: how long after a row's event time its label is known.

It is measured over the labelled rows whose event lies in the older half of the window. Of the younger half only the quick labels are
there at the as-of, so that all labels would look quick. Of delays longer than half of the window the measure sees only a part. What
was learnt after the as-of is not in it: the rows without a label at the as-of are gone by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import duckdb

    from pipeline.settings.source import Source

# With fewer rows the slowest twentieth is less than one row.
LEAST_ROWS = 20
SHARE = 0.95
MEDIAN, P95 = "median", "p95"


@dataclass(frozen=True)
class LabelDelay:
    """Half of the labels are known `median_s` seconds after their rows, 95 % within `p95_s`; None when the labelled rows are too few."""

    median_s: int | None = None
    p95_s: int | None = None

    def as_dict(self) -> dict[str, int | None]:
        """The value of `label_delay_s`, in snapshot.json and in the event data_landed."""
        return {MEDIAN: self.median_s, P95: self.p95_s}

    @classmethod
    def read(cls, values: Mapping[str, Any] | None) -> Self | None:
        """What `as_dict` wrote; None for a snapshot from before it was measured, or without label times."""
        return None if values is None else cls(values.get(MEDIAN), values.get(P95))

    def __str__(self) -> str:
        if self.median_s is None or self.p95_s is None:
            return f"label delay not known: fewer than {LEAST_ROWS} labelled rows in the older half of the window"
        return f"label delay {duration(self.median_s)} (median), 95 % within {duration(self.p95_s)}"


def measured(
    connection: duckdb.DuckDBPyConnection, source: Source, target: str, start: datetime, end: datetime
) -> LabelDelay | None:
    """The delay in the table `rows` of the window [start, end), which has no rows with a label after `end`; None without label times.

    In whole seconds, rounded up. A label that was known before its row happened counts as known at once.
    """
    # Here, since the ledger's events read delays, and need no DuckDB.
    from pipeline.data import sql

    if source.label_time is None:
        return None
    event, label = sql.quoted(source.event_time), sql.quoted(source.label_time)
    labelled = f"NOT {sql.unlabelled(target)} AND {label} IS NOT NULL"
    # quantile_disc gives a value of the data, so that the file has the same bytes each time.
    query = f"""SELECT count(*), quantile_disc(delay, 0.5), quantile_disc(delay, {SHARE})
                FROM (SELECT greatest(0, epoch_us({label}) - epoch_us({event})) AS delay FROM rows
                      WHERE {event} < $middle AND {labelled})"""
    ((rows, median, p95),) = connection.execute(query, {"middle": start + (end - start) / 2}).fetchall()
    if rows < LEAST_ROWS:
        return LabelDelay()
    return LabelDelay(_seconds(median), _seconds(p95))


def _seconds(microseconds: int) -> int:
    return -(-int(microseconds) // 1_000_000)


def duration(seconds: float) -> str:
    """A length of time for people, in the largest unit that it has."""
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = f"{seconds / length:,.1f}".removesuffix(".0")
            return f"{count} {unit}" if count == "1" else f"{count} {unit}s"
    return f"{seconds:g} s"
