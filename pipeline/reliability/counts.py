"""What was counted of each version, kept in $PERENNIAL_HOME/slo.db: a row a minute, after some hours a row an hour.

So it is bounded: 500 rows of minutes and 24 rows for each day of the longest window, a version. A row has totals, and is written again
as a whole, so that a service that is killed loses at most one round, and none is counted twice. A time without rows was not checked.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DataError
from pipeline.policy.service_levels import Counted, Span

MINUTE_S, HOUR_S = 60, 3600
# Minutes stay so long: the alert of six hours sees minutes.
MINUTES_KEPT_S = 8 * HOUR_S
KEPT_S = 90 * 24 * HOUR_S
COUNTERS_KEPT_S = 24 * HOUR_S
TABLES = (
    """CREATE TABLE IF NOT EXISTS counts (model TEXT, version TEXT, start INTEGER, length INTEGER, checks INTEGER, up INTEGER,
    away INTEGER, requests INTEGER, failed INTEGER, latencies TEXT, PRIMARY KEY (model, start, length, version)) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS counters (slot TEXT PRIMARY KEY, at INTEGER, totals TEXT) WITHOUT ROWID",
)
COLUMNS = "checks, up, away, requests, failed, latencies"


@dataclass(frozen=True)
class Cell:
    """A model's version in a minute that began at `start` (seconds since 1970)."""

    model: str
    version: str
    start: int


def file_of(home: Path) -> Path:
    """The SQLite file of counts of requests, which every service that watches reads and writes."""
    return home / "slo.db"


class Counts:
    """The store, for one thread. One process writes, any may read. Each method raises DataError when the file cannot be read or written."""

    def __init__(self, home: Path) -> None:
        self._file = file_of(home)
        self._db: sqlite3.Connection | None = None
        self._seen: int | None = None

    def write(self, cells: Mapping[Cell, Counted], totals: Mapping[str, str], at: int) -> None:
        """Replaces the cells, and the newest totals of the slots' own counters."""
        with self._open(create=True) as db, db:
            db.executemany(
                "REPLACE INTO counts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(c.model, c.version, c.start, MINUTE_S, *_row(counted)) for c, counted in cells.items()],
            )
            db.executemany(
                "REPLACE INTO counters VALUES (?, ?, ?)", [(slot, at, text) for slot, text in totals.items()]
            )

    def cells(self, since: int) -> dict[Cell, Counted]:
        """The minutes that began at `since` or later."""
        with self._open() as db:
            rows = _rows(
                db,
                f"SELECT model, version, start, {COLUMNS} FROM counts WHERE length = ? AND start >= ?",
                MINUTE_S,
                since,
            )
        return {Cell(*row[:3]): _counted(row[3:]) for row in rows}

    def totals(self) -> tuple[dict[str, str], int]:
        """(the newest totals of the slots' counters, when the newest of them was written; 0 for never)."""
        with self._open() as db:
            rows = _rows(db, "SELECT slot, totals, at FROM counters")
        return {slot: text for slot, text, _ in rows}, max((at for _, _, at in rows), default=0)

    def span(self, model: str, since: float, until: float, version: str | None = None) -> Span:
        """What was counted of the model, or of one version, in rows that overlap [since, until)."""
        counted, first, _ = self._sum(model, since, until, version)
        return Span(counted, min(until - first, until - since) if first is not None else 0.0)

    def versions(self, model: str, since: float, until: float) -> dict[str, Span]:
        """The same for each version that was counted."""
        query = "SELECT DISTINCT version FROM counts WHERE model = ? AND start + length > ? AND start < ?"
        with self._open() as db:
            names = [row[0] for row in _rows(db, query, model, since, until)]
        return {name: self.span(model, since, until, name) for name in names}

    def models(self) -> list[str]:
        with self._open() as db:
            return sorted(row[0] for row in _rows(db, "SELECT DISTINCT model FROM counts"))

    def _sum(self, model: str, since: float, until: float, version: str | None) -> tuple[Counted, float | None, int]:
        """(the sum, when its first row begins, the number of rows)."""
        query = f"SELECT start, {COLUMNS} FROM counts WHERE model = ? AND start + length > ? AND start < ?"
        values = [model, since, until] + ([version] if version is not None else [])
        with self._open() as db:
            rows = _rows(db, query + (" AND version = ?" if version is not None else ""), *values)
        return _total(row[1:] for row in rows), min((row[0] for row in rows), default=None), len(rows)

    def fold(self, now: int) -> None:
        """Makes one row of each hour whose minutes are old, and drops what is older than any window."""
        last = (now - MINUTES_KEPT_S) // HOUR_S * HOUR_S
        with self._open(create=True) as db, db:
            query = f"SELECT model, version, start / {HOUR_S} * {HOUR_S}, {COLUMNS} FROM counts WHERE length = ? AND start < ?"
            hours: dict[Cell, list[tuple]] = {}
            for row in _rows(db, query, MINUTE_S, last):
                hours.setdefault(Cell(*row[:3]), []).append(row[3:])
            folded = [(c.model, c.version, c.start, HOUR_S, *_row(_total(rows))) for c, rows in hours.items()]
            db.executemany("REPLACE INTO counts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", folded)
            db.execute("DELETE FROM counts WHERE length = ? AND start < ?", (MINUTE_S, last))
            db.execute("DELETE FROM counts WHERE start < ?", (now - KEPT_S,))
            db.execute("DELETE FROM counters WHERE at < ?", (now - COUNTERS_KEPT_S,))

    @contextmanager
    def _open(self, create: bool = False) -> Iterator[sqlite3.Connection]:
        try:
            yield self._connected(create)
        except (sqlite3.Error, OSError) as error:
            self._db = None
            helps = "make room on the disk, or delete the file: then service levels begin anew"
            raise DataError(f"counts {self._file}", f"cannot be used ({error})", helps) from error

    def _connected(self, create: bool) -> sqlite3.Connection:
        """One connection for all reads: opening one takes longer than most of them. A file that was deleted is begun anew."""
        there = self._file.stat().st_ino if self._file.is_file() else None
        if self._db is not None and self._seen == there and not (create and there is None):
            return self._db
        if self._db is not None:
            self._db.close()
        self._db = sqlite3.connect(self._file if create or there is not None else ":memory:", timeout=10)
        if create:
            # A power cut may take the last round; it costs no row before it.
            self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        for table in TABLES:
            self._db.execute(table)
        self._seen = self._file.stat().st_ino if self._file.is_file() else None
        return self._db


def _rows(db: sqlite3.Connection, query: str, *values: object) -> list[tuple]:
    return db.execute(query, values).fetchall()


def _row(counted: Counted) -> tuple:
    latencies = json.dumps({repr(float(bound)): count for bound, count in sorted(counted.latencies.items()) if count})
    return counted.checks, counted.up, counted.away, counted.requests, counted.failed, latencies


def _counted(row: tuple) -> Counted:
    checks, up, away, requests, failed, text = row
    latencies = {float(bound): count for bound, count in json.loads(text).items()}
    return Counted(checks, up, away, requests, failed, latencies)


def _total(rows: Iterable[tuple]) -> Counted:
    """The sum of rows of COLUMNS."""
    checks = up = away = requests = failed = 0
    latencies: dict[float, int] = {}
    for row in rows:
        checks, up, away, requests, failed = (
            checks + row[0],
            up + row[1],
            away + row[2],
            requests + row[3],
            failed + row[4],
        )
        if row[5] != "{}":
            for bound, count in json.loads(row[5]).items():
                latencies[float(bound)] = latencies.get(float(bound), 0) + count
    return Counted(checks, up, away, requests, failed, latencies)
