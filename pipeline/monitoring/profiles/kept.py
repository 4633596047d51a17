"""Profiles of partitions that are counted already: an SQLite file for each model, which may be deleted.

A profile is known by its partition's identity and by its edges: the layout that it is counted in, and the categories that the model knows. So
another version's reference has profiles of its own. The hours of a partition are kept apart, and any window of whole hours is a sum.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
import zlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.monitoring.profiles.layout import Layout
from pipeline.monitoring.profiles.profile import Profile

# Tables of an earlier form are made anew: their rows are counted once more.
TABLES = """
    DROP TABLE IF EXISTS partition;
    DROP TABLE IF EXISTS profile;
    CREATE TABLE IF NOT EXISTS counted (edges TEXT, partition TEXT, PRIMARY KEY (edges, partition)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS hours (
        edges TEXT, partition TEXT, hour INTEGER, rows INTEGER, untimed INTEGER, answers REAL, cells BLOB,
        PRIMARY KEY (edges, partition, hour)) WITHOUT ROWID;
"""
WAIT_S = 60


@dataclass(frozen=True)
class Counted:
    """The profile of some rows; `untimed` of them had no event time, and `answers` is the sum of the answers that are counted."""

    profile: Profile
    untimed: int = 0
    answers: float = 0.0

    def __add__(self, other: Counted) -> Counted:
        return Counted(self.profile + other.profile, self.untimed + other.untimed, self.answers + other.answers)


class Hour(NamedTuple):
    """The profile of an hour of a partition as it is kept: `hour` is counted from 1970 in UTC, `cells` are packed (see Kept.unpacked)."""

    hour: int
    rows: int
    untimed: int
    answers: float
    cells: bytes


@dataclass(frozen=True)
class Window:
    """`counted` is the sum of whole hours, `logged` the rows of all hours of the partitions, and `holding` the partitions that have rows of an
    hour, by hour."""

    counted: Counted
    logged: int
    holding: Mapping[int, Sequence[str]]


@dataclass(frozen=True)
class Answered:
    """Whose answers count: those of the version, received at `since` (ISO 8601) or later, when another package was live under its number
    before. `digest` is the package's."""

    version: str
    digest: str
    since: str = ""


def edges_of(layout: Layout, learnt: Mapping[str, Collection[str]], answered: Answered | None = None) -> str:
    """What a profile's counts depend on beside the rows, as a digest."""
    known = {column: sorted(categories) for column, categories in sorted(learnt.items())}
    by = [asdict(answered)] if answered else []
    return hashlib.sha256(json.dumps([layout.as_dict(), known, *by]).encode()).hexdigest()


class Kept:
    """The kept profiles in `file` of one layout and its categories. Hours are counted from 1970, in UTC."""

    def __init__(
        self, file: Path, layout: Layout, learnt: Mapping[str, Collection[str]], answered: Answered | None = None
    ) -> None:
        """`answered` says whose answers are counted as the layout's column ANSWERS; without it none are."""
        self._file, self.layout, self.learnt, self.answered = file, layout, learnt, answered
        self.edges = edges_of(layout, learnt, answered)
        file.parent.mkdir(parents=True, exist_ok=True)

    def counted(self) -> set[str]:
        """The partitions that are counted."""
        with closing(self._open()) as kept:
            return {name for (name,) in kept.execute("SELECT partition FROM counted WHERE edges = ?", [self.edges])}

    def add(self, found: Mapping[str, Mapping[int, Counted]], current: Collection[str]) -> None:
        """Keeps the hours of each counted partition. Those that are not `current`, or of other edges, are removed."""
        hours = {
            name: [Hour(at, of.profile.rows, of.untimed, of.answers, self._packed(of.profile)) for at, of in by.items()]
            for name, by in found.items()
        }
        self.keep(hours)
        self.prune(current)

    def keep(self, found: Mapping[str, Sequence[Hour]]) -> None:
        """Keeps all hours of each partition, in place of those that are kept of it."""
        names = [(self.edges, name) for name in found]
        rows = [(self.edges, name, *hour) for name, hours in found.items() for hour in hours]
        with closing(self._open()) as kept, kept:
            kept.execute("BEGIN IMMEDIATE")
            kept.executemany("DELETE FROM hours WHERE edges = ? AND partition = ?", names)
            kept.executemany("INSERT OR REPLACE INTO counted VALUES (?, ?)", names)
            kept.executemany("INSERT INTO hours VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def prune(self, current: Collection[str]) -> None:
        """Removes the profiles of other edges, and of partitions that are not `current`."""
        with closing(self._open()) as kept:
            listed = kept.execute("SELECT edges, partition FROM counted").fetchall()
            gone = [(edges, name) for edges, name in listed if edges != self.edges or name not in current]
            if not gone:
                return
            with kept:
                kept.execute("BEGIN IMMEDIATE")
                for table in ("hours", "counted"):
                    kept.executemany(f"DELETE FROM {table} WHERE edges = ? AND partition = ?", gone)

    def hours(self, partition: str) -> list[Hour]:
        """What is kept of a partition."""
        query = "SELECT hour, rows, untimed, answers, cells FROM hours WHERE edges = ? AND partition = ? ORDER BY hour"
        with closing(self._open()) as kept:
            return [Hour(*row) for row in kept.execute(query, [self.edges, partition])]

    def window(self, partitions: Collection[str], first: int, end: int, hours: Collection[int]) -> Window | None:
        """The sum of the hours in [first, end) of the partitions, and which of them have rows of `hours`; all as of one moment. None where one of
        them is not counted: another look may have removed it since."""
        with closing(self._open()) as kept:
            kept.execute("BEGIN")
            there = {name for (name,) in kept.execute("SELECT partition FROM counted WHERE edges = ?", [self.edges])}
            if not there.issuperset(partitions):
                return None
            query = "SELECT partition, hour, rows FROM hours WHERE edges = ? ORDER BY partition"
            logged = 0
            holding: dict[int, list[str]] = {hour: [] for hour in hours}
            for name, hour, rows in kept.execute(query, [self.edges]):
                if name in partitions:
                    logged += rows
                    if hour in holding:
                        holding[hour].append(name)
            return Window(self._total(kept, partitions, first, end), logged, holding)

    def _total(self, kept: sqlite3.Connection, partitions: Collection[str], first: int, end: int) -> Counted:
        query = """SELECT partition, hour, rows, untimed, answers, cells FROM hours
                   WHERE edges = ? AND hour >= ? AND hour < ? ORDER BY hour, partition"""
        rows, untimed, answers = 0, 0, []
        cells = np.zeros(sum(column.cells for column in self.layout.columns), np.int64)
        for name, *of_hour in kept.execute(query, [self.edges, first, end]):
            if name in partitions:
                hour = Hour(*of_hour)
                rows, untimed = rows + hour.rows, untimed + hour.untimed
                answers.append(hour.answers)
                cells += np.frombuffer(zlib.decompress(hour.cells), np.int64)
        return Counted(Profile(rows, self.unpacked(cells)), untimed, math.fsum(answers))

    def _packed(self, profile: Profile) -> bytes:
        cells = [profile.cells[column.name] for column in self.layout.columns]
        return zlib.compress(np.concatenate([np.empty(0, np.int64), *cells]).tobytes(), 1)

    def unpacked(self, cells: np.ndarray) -> dict[str, np.ndarray]:
        """The cells of each column, of all cells side by side, int64 (cells,)."""
        ends = np.cumsum([0, *(column.cells for column in self.layout.columns)])
        return {
            column.name: cells[start:end]
            for column, start, end in zip(self.layout.columns, ends, ends[1:], strict=False)
        }

    def _open(self) -> sqlite3.Connection:
        """Of a file that is none of ours, or broken, nothing can be kept: it is made anew."""
        for attempt in range(2):
            kept = sqlite3.connect(self._file, timeout=WAIT_S, isolation_level=None)
            try:
                kept.executescript(TABLES)
                return kept
            except sqlite3.DatabaseError as error:
                kept.close()
                if isinstance(error, sqlite3.OperationalError) or attempt:
                    raise
                self._file.unlink(missing_ok=True)
        raise AssertionError
