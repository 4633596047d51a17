"""The windows of a model's past and their labelled rows, which every version is scored on.

A row counts in its window with the label that was known when the window's labels were due: `delay` windows after its end, by then
nearly all of them have come. Rows that break the contract are left out, as `validate` leaves them out of training.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.data import contract, snapshot, sql, unread
from pipeline.data import source as source_rows
from pipeline.errors import DataError, SettingsError
from pipeline.settings.models import Model
from pipeline.training.economic_loss import unknown_classes
from pipeline.training.tasks.multiclass import in_order

# So many of a window's labels must have come before its loss counts as known.
MOST_LABELS = 0.95
# With fewer windows nothing can be said.
FEWEST = 8
# Without a begin the past is looked for in so many days: ten years.
REACH_DAYS = 3652
SHOWN_CLASSES = 20


@dataclass(frozen=True)
class Span:
    """Windows of `days` days one after the other, from `start` on and not beyond `end`."""

    start: datetime
    end: datetime
    days: float

    @property
    def length(self) -> timedelta:
        return timedelta(days=self.days)

    @property
    def starts(self) -> list[datetime]:
        count = (self.end - self.start) // self.length
        return [self.start + number * self.length for number in range(count)]


@dataclass(frozen=True)
class Past:
    """`starts` are those of windows with rows, in the order of time. `rows`, in a snapshot's form, are those of all windows together, and
    `begins` (windows + 1,) int64 says where each window's begin. `digests` are of the windows' rows. `left_out` are starts of windows
    without a labelled row."""

    span: Span
    starts: tuple[datetime, ...]
    rows: pa.Table
    begins: np.ndarray
    digests: tuple[str, ...]
    delay: int
    left_out: tuple[datetime, ...] = ()

    @property
    def windows(self) -> int:
        return len(self.starts)


def read(name: str, model: Model, root: Path, span: Span) -> Past:
    """The past of the model called `name`. Raises DataError for a source that cannot be read, SettingsError for too few windows."""
    if len(span.starts) < FEWEST:
        raise _too_short(name, span, len(span.starts))
    # One reading for all windows: what was known at the end of the span, of which each window takes what was known when it was due.
    table, schema = snapshot.known_rows(name, model, root, span.start, span.end, span.end)
    kept = contract.keeps(contract.spelt(table, schema), model, schema)
    table = table.filter(pa.array(kept))
    if unread.COLUMN in table.column_names:
        table = table.drop_columns([unread.COLUMN])
    place = (_microseconds(table, model.source.event_time) - _instant(span.start)) // _length(span)
    late = _windows_late(table, model, span, place)
    delay = _delay(model, span, place, late)
    count = len(span.starts) - delay
    known = (late <= delay) & (place < count)
    table, place = table.filter(pa.array(known)), place[known]
    there = np.unique(place)
    if len(there) < FEWEST:
        raise _too_short(name, span, len(there))
    _classes_known(name, model, table)
    begins = np.searchsorted(place, [*there, place[-1] + 1])
    parts = [table.slice(begin, end - begin) for begin, end in zip(begins, begins[1:], strict=False)]
    gone = sorted(set(range(count)) - set(there.tolist()))
    return Past(
        span,
        tuple(span.starts[number] for number in there),
        table,
        begins,
        tuple(digest_of(part) for part in parts),
        delay,
        tuple(span.starts[number] for number in gone),
    )


def reach(name: str, model: Model, root: Path, start: datetime | None, end: datetime) -> tuple[datetime, datetime]:
    """The event times of the first and the last labelled row before `end`, in UTC. Reads all of the source, from `start` or ten years before on."""
    with sql.connect(root) as connection:
        begin = start or end - timedelta(days=REACH_DAYS)
        source_rows.load(connection, model.source, model.training, begin, end, name)
        source_rows.keep_window(connection, model.source, begin, end)
        event = sql.quoted(model.source.event_time)
        labelled = f"NOT {sql.unlabelled(model.training.target)}"
        query = f"SELECT epoch_us(min({event})), epoch_us(max({event})) FROM rows WHERE {labelled}"
        ((first, last),) = connection.execute(query).fetchall()
    if first is None:
        line = f"has no labelled row before {end:%Y-%m-%d %H:%M}"
        raise DataError(f"{name} source", line, f"check the source, models.{name}.training.target, and --to")
    return _time(first), _time(last)


def _time(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)


def _too_short(name: str, span: Span, windows: int) -> SettingsError:
    return SettingsError(
        f"backtest of {name}",
        f"has {windows} windows with labels from {span.start:%Y-%m-%d} to {span.end:%Y-%m-%d}, and needs {FEWEST}",
        "choose an earlier --from, a later --to or fewer --window-days",
    )


def _classes_known(name: str, model: Model, table: pa.Table) -> None:
    """Raises SettingsError where costs are stated for a class that no row of the past has: a slip would leave them unused."""
    costs = model.economics.by_class
    found = table[model.training.target].unique().to_pylist() if costs is not None else []
    if costs is not None and (unknown := unknown_classes(costs, found)):
        raise SettingsError(
            f"backtest of {name}",
            f"models.{name}.economics.by_class.costs names {unknown}, which no labelled row has",
            f"the classes are {', '.join(in_order(found)[:SHOWN_CLASSES])}{' …' if len(found) > SHOWN_CLASSES else ''}",
        )


def digest_of(table: pa.Table) -> str:
    """Of the cells and the order of rows: equal rows have one digest, however Arrow holds them."""
    hashes = pd.util.hash_pandas_object(table.to_pandas(), index=False)
    return hashlib.sha256(",".join(table.column_names).encode() + hashes.to_numpy().tobytes()).hexdigest()


def _windows_late(table: pa.Table, model: Model, span: Span, place: np.ndarray) -> np.ndarray:
    """So many windows after the end of its own each row's label is known; 0 without label times."""
    if model.source.label_time is None:
        return np.zeros(len(place), "int64")
    known = _microseconds(table, model.source.label_time) - _instant(span.start)
    return np.maximum(-(-known // _length(span)) - (place + 1), 0)


def _delay(model: Model, span: Span, place: np.ndarray, late: np.ndarray) -> int:
    """The windows after which a window's labels are due. The older half of the past says it: of the younger one the late labels lack."""
    if model.source.label_delay_days is not None:
        return math.ceil(model.source.label_delay_days / span.days)
    older = late[place < len(span.starts) / 2]
    if not len(older):
        raise DataError(
            "backtest", "the older half of the span has no labelled row", "choose a later --from, where the rows begin"
        )
    return int(np.quantile(older, MOST_LABELS, method="inverted_cdf"))


def _microseconds(table: pa.Table, column: str) -> np.ndarray:
    return table[column].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()


def _instant(time: datetime) -> int:
    return round(time.timestamp() * 1_000_000)


def _length(span: Span) -> int:
    return round(span.length.total_seconds() * 1_000_000)
