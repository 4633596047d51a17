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
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipeline.monitoring.profiles.layout import Layout
from pipeline.monitoring.profiles.profile import Profile, total

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
        self._edges = edges_of(layout, learnt, answered)
        file.parent.mkdir(parents=True, exist_ok=True)

    def counted(self) -> set[str]:
        """The partitions that are counted."""
        with closing(self._open()) as kept:
            return {name for (name,) in kept.execute("SELECT partition FROM counted WHERE edges = ?", [self._edges])}

    def add(self, found: Mapping[str, Mapping[int, Counted]], current: Collection[str]) -> None:
        """Keeps the hours of each counted partition. Those that are not `current`, or of other edges, are removed."""
        rows = [
            (self._edges, name, hour, of.profile.rows, of.untimed, of.answers, self._packed(of.profile))
            for name, hours in found.items()
            for hour, of in hours.items()
        ]
        with closing(self._open()) as kept, kept:
            kept.execute("BEGIN IMMEDIATE")
            listed = kept.execute("SELECT edges, partition FROM counted").fetchall()
            gone = [(edges, name) for edges, name in listed if edges != self._edges or name not in current]
            for table in ("hours", "counted"):
                kept.executemany(f"DELETE FROM {table} WHERE edges = ? AND partition = ?", gone)
            kept.executemany("INSERT OR REPLACE INTO counted VALUES (?, ?)", [(self._edges, name) for name in found])
            kept.executemany("INSERT OR REPLACE INTO hours VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def rows(self, partitions: Collection[str]) -> int:
        """How many rows the partitions have, of all hours."""
        with closing(self._open()) as kept:
            query = "SELECT partition, sum(rows) FROM hours WHERE edges = ? GROUP BY 1"
            return sum(rows for name, rows in kept.execute(query, [self._edges]) if name in partitions)

    def holding(self, partitions: Collection[str], hour: int) -> list[str]:
        """Those of the partitions that have rows of the hour."""
        with closing(self._open()) as kept:
            query = "SELECT partition FROM hours WHERE edges = ? AND hour = ?"
            return sorted(name for (name,) in kept.execute(query, [self._edges, hour]) if name in partitions)

    def total(self, partitions: Collection[str], first: int, end: int) -> Counted:
        """The sum of the hours in [first, end) of the partitions."""
        with closing(self._open()) as kept:
            query = """SELECT partition, rows, untimed, answers, cells FROM hours
                       WHERE edges = ? AND hour >= ? AND hour < ? ORDER BY hour, partition"""
            found = [row[1:] for row in kept.execute(query, [self._edges, first, end]) if row[0] in partitions]
        if not found:
            return Counted(total([], self.layout))
        rows, untimed, answers, packed = zip(*found, strict=True)
        cells = np.sum([np.frombuffer(zlib.decompress(each), np.int64) for each in packed], axis=0)
        return Counted(Profile(sum(rows), self._unpacked(cells)), sum(untimed), math.fsum(answers))

    def _packed(self, profile: Profile) -> bytes:
        cells = [profile.cells[column.name] for column in self.layout.columns]
        return zlib.compress(np.concatenate([np.empty(0, np.int64), *cells]).tobytes(), 1)

    def _unpacked(self, cells: np.ndarray) -> dict[str, np.ndarray]:
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
