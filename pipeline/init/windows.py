"""The window, the held-out days and the schedule, from the times that the rows have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb

from pipeline.data import text_sql
from pipeline.errors import DataError
from pipeline.init.request import Assumption, Request
from pipeline.init.roles import Roles
from pipeline.init.table import TABLE

# The share of the labelled rows, the latest ones, that judge a version; and the fewest rows that can.
HELD_OUT, FEWEST_HELD_OUT, FEWEST_ROWS = 0.2, 50, 250
DAY = timedelta(days=1)
# A window of more than this is long enough for a run a week.
WEEKLY_DAYS = 28


@dataclass(frozen=True)
class Windows:
    """Lengths are in days, back from `as_of` (UTC); `cron` is that of retrains, and `said` has why each is so."""

    as_of: datetime
    window_days: float
    holdout_days: float
    monitor_days: float
    cron: str
    said: list[Assumption]

    @property
    def start(self) -> datetime:
        return self.as_of - timedelta(days=self.window_days)

    @property
    def holdout_start(self) -> datetime:
        return self.as_of - timedelta(days=self.holdout_days)


def choose(
    connection: duckdb.DuckDBPyConnection, request: Request, roles: Roles, instant: str, known: str, label: str
) -> Windows:
    """The windows over the rows of TABLE. SQL: `instant` is a row's event time, `known` when its label was, `label` whether it has one.

    Raises DataError when no choice leaves rows to train on and rows to judge by.
    """
    rows, first, last, from_here, last_known, different = _times(connection, instant, known, label)
    if rows < FEWEST_ROWS:
        raise DataError(
            "--data",
            f"has {rows:,} rows with a label and a time; {FEWEST_ROWS} are the fewest that can train a model and judge it",
            "collect more",
        )
    if different < 2:
        raise DataError(
            f"--time {roles.time.name}",
            f"is {first:%Y-%m-%d %H:%M} in every row",
            "name a column that differs: a version is judged by rows that are later than those it learnt from",
        )
    _refuse_future(request, roles, max(last, last_known))
    as_of = _next_midnight(max(last, last_known))
    said: list[Assumption] = []
    window = _window(request, as_of, first, said)
    if request.window_days is not None:
        inside = (
            f"{label} AND {instant} >= {text_sql.literal((as_of - timedelta(days=window)).isoformat())}::TIMESTAMPTZ"
        )
        within, _, _, from_here, _, _ = _times(connection, instant, known, inside)
        if within < FEWEST_ROWS:
            raise DataError(
                f"--window-days {window:g}",
                f"has {within:,} rows with a label and a time, from {as_of - timedelta(days=window):%Y-%m-%d %H:%M} on; {FEWEST_ROWS} are the fewest",
                "give more days",
            )
    holdout = _holdout(request, as_of, from_here, window, said)
    weekly = window > WEEKLY_DAYS
    cron = request.cron if request.cron is not None else ("0 0 * * 1" if weekly else "0 0 * * *")
    if request.cron is None:
        often = "each Monday" if weekly else "each day"
        said.append(Assumption("schedule", often, f"a window of {window:g} days changes little before", "--cron"))
    monitor = max(1.0, min(30.0, math.floor(window / 3)))
    return Windows(as_of, window, holdout, monitor, cron, said)


def _refuse_future(request: Request, roles: Roles, last: datetime) -> None:
    """Raises DataError when a row is later than now: the window, the schedule and the held-out days would follow it into the future."""
    now = datetime.now(UTC)
    if last < now + DAY:
        return
    columns = [each.name for each in (roles.time, roles.label_time) if each is not None]
    raise DataError(
        f"--time {' or --label-time '.join(columns)}",
        f"has times that are still to come, up to {last:%Y-%m-%d}; now it is {now:%Y-%m-%d}",
        f"correct these rows, or leave them out in a SELECT as --data, with WHERE {columns[0]} < '{now:%Y-%m-%d}'",
    )


def _times(
    connection: duckdb.DuckDBPyConnection, instant: str, known: str, label: str
) -> tuple[int, datetime, datetime, datetime, datetime, int]:
    """(labelled rows, first and last time, the time from which the last fifth of them begins, the last label's, different times)."""
    # Reading a time out of a text is a long expression: DuckDB would read it anew for each figure.
    read = f"SELECT {instant} AS instant, {known} AS known FROM {TABLE} WHERE {label}"
    query = f"""
        SELECT count(*), min(instant), max(instant), quantile_disc(instant, {1 - HELD_OUT}), max(known), count(DISTINCT instant)
        FROM ({read}) WHERE instant IS NOT NULL"""
    (row,) = connection.execute(query).fetchall()
    rows, *times, different = row
    none = datetime.min.replace(tzinfo=UTC)
    first, last, from_here, last_known = (time.astimezone(UTC) if time is not None else none for time in times)
    return rows, first, last, from_here, last_known, different


def _next_midnight(time: datetime) -> datetime:
    return time.replace(hour=0, minute=0, second=0, microsecond=0) + DAY


def _window(request: Request, as_of: datetime, first: datetime, said: list[Assumption]) -> float:
    if request.window_days is not None:
        return request.window_days
    days = math.ceil((as_of - first) / DAY)
    why = f"from the first row, {first:%Y-%m-%d}, to the day after the last label, {as_of:%Y-%m-%d}"
    said.append(Assumption("window", f"{days} days", why, "--window-days"))
    return float(days)


def _holdout(request: Request, as_of: datetime, from_here: datetime, window: float, said: list[Assumption]) -> float:
    if request.holdout_days is not None:
        return request.holdout_days
    exact = (as_of - from_here) / DAY
    days = float(math.ceil(exact)) if math.ceil(exact) < 0.5 * window else round(exact, 4)
    why = f"the latest fifth of the labelled rows, from {as_of - timedelta(days=days):%Y-%m-%d %H:%M} on"
    said.append(Assumption("held out", f"{days:g} days", why, "--holdout-days"))
    return days
