"""Questions about a table that take more than one column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from pipeline.data import drawn_precision, labels, neutral_sql, text_sql
from pipeline.data.sql import column_types, is_number, quoted
from pipeline.init.facts import Facts
from pipeline.init.table import TABLE
from pipeline.serving.schema.spelling import MISSING

# Fewer rows than this share are slips of the clock.
SLIPS = 0.001
# Behind a time of the day: the end of a date looks like an offset.
WITH_ZONE = r":\d\d[\d.,]*\s?(Z|UTC|[+-]\d\d(:?\d\d)?)\s*$"


def instant(column: str, duckdb_type: str, epoch: str | None = None) -> str:
    """SQL for the time of a cell; NULL where it is none. A number is so many `epoch` since 1970."""
    if duckdb_type == "VARCHAR" or is_number(duckdb_type):
        return text_sql.time(text_sql.stripped(neutral_sql.category(column, duckdb_type)), epoch)
    return f"CAST({quoted(column)} AS TIMESTAMPTZ)"


@dataclass(frozen=True)
class Looks:
    """Looks at all rows of the table TABLE."""

    connection: duckdb.DuckDBPyConnection
    target: str
    decimal: str = "."

    def labels(self) -> dict[str, int]:
        """The rows of each label of the target, in the order of their one text."""
        label, _ = labels.texts(self.target, column_types(self.connection, TABLE)[self.target], "", self.decimal)
        query = f"SELECT {label} AS label, count(*) FROM {TABLE} WHERE label IS NOT NULL GROUP BY 1 ORDER BY 1"
        return {_short(text): rows for text, rows in self.connection.execute(query).fetchall()}

    def missing_labels(self) -> dict[str, int]:
        """The rows of each text of the target that is written for a missing label; an empty one says nothing."""
        cell = text_sql.stripped(quoted(self.target))
        words = ", ".join(text_sql.literal(word) for word in sorted(MISSING) if word)
        query = f"SELECT {cell} AS word, count(*) FROM {TABLE} WHERE word IN ({words}) GROUP BY 1 ORDER BY 1"
        return dict(self.connection.execute(query).fetchall())

    def rows_of_numbers(self) -> dict[float, int]:
        """The rows of each number that the target has."""
        column_type = column_types(self.connection, TABLE)[self.target]
        cell = quoted(self.target)
        text = text_sql.number(text_sql.stripped(cell), self.decimal)
        number = text if column_type == "VARCHAR" else f"CAST({cell} AS DOUBLE)"
        query = f"SELECT {number} AS number, count(*) FROM {TABLE} WHERE isfinite(number) GROUP BY 1"
        return dict(self.connection.execute(query).fetchall())

    def merges(self, each: Facts) -> bool:
        """Whether a double cannot tell the numbers of a column from each other, as those of accounts with 18 digits."""
        large = max(abs(each.low or 0), abs(each.high or 0)) >= drawn_precision.EXACT
        return large and drawn_precision.lost_in_double(self.connection, each.name, each.type, TABLE)

    def without_zone(self, times: Facts) -> tuple[int, str] | None:
        """(how many cells of a column of times name no zone, one of them); None where all do."""
        if times.type != "VARCHAR":
            return (
                None
                if "TIME ZONE" in times.type or times.type.startswith("TIMESTAMPTZ")
                else (times.times, times.example)
            )
        cell = quoted(times.name)
        naive = f"NOT regexp_matches({cell}, {text_sql.literal(WITH_ZONE)}) AND regexp_matches({cell}, '^\\s*\\d{{4}}-\\d\\d-\\d\\d')"
        rows, example = self._counted(f"SELECT count(*) FILTER ({naive}), min({cell}) FILTER ({naive}) FROM {TABLE}")
        return (rows, example.strip()) if rows else None

    def different(self, columns: Sequence[str]) -> int:
        """How many different rows there are by these columns."""
        names = ", ".join(map(quoted, columns))
        return self._counted(f"SELECT count(*) FROM (SELECT DISTINCT {names} FROM {TABLE})")[0]

    def twice(self, columns: Sequence[str]) -> int:
        """How many rows have all of these columns as another row has them."""
        names = ", ".join(map(quoted, columns))
        there = " AND ".join(f"{quoted(column)} IS NOT NULL" for column in columns)
        rows, different = self._counted(f"SELECT count(*), count(DISTINCT ({names})) FROM {TABLE} WHERE {there}")
        return int(rows - different)

    def follows(self, later: str, earlier: str) -> bool:
        """Whether the time `later` is never before the time `earlier`, and is there where the target is."""
        after, before = self._instants(later, earlier)
        before_rows, without = self._counted(
            f"SELECT count(*) FILTER ({after} < {before}), "
            f"count(*) FILTER ({quoted(self.target)} IS NOT NULL AND {after} IS NULL) FROM {TABLE}"
        )
        return before_rows == 0 and without == 0

    def is_mostly_after(self, later: str, earlier: str) -> bool:
        """Whether the time `later` is not before `earlier` in at least half of the rows that have both."""
        after, before = self._instants(later, earlier)
        not_before, rows = self._counted(
            f"SELECT count(*) FILTER ({after} >= {before}), count({after} >= {before}) FROM {TABLE}"
        )
        return not_before >= rows / 2

    def is_known_by(self, column: str, time: str) -> bool:
        """Whether the time in `column` is later than `time` in next to no row."""
        known, by = self._instants(column, time)
        later, rows = self._counted(f"SELECT count(*) FILTER ({known} > {by}), count({known}) FROM {TABLE}")
        return later <= SLIPS * rows

    def spread_of_ages(self, column: str, time: str) -> float:
        """By how many seconds the ages of `column` at `time` differ: of 20 rows the oldest and the newest are left out."""
        past, by = self._instants(column, time)
        age = f"epoch({by}) - epoch({past})"
        (spread,) = self._counted(f"SELECT quantile_cont({age}, 0.95) - quantile_cont({age}, 0.05) FROM {TABLE}")
        return spread or 0.0

    def _instants(self, *columns: str) -> list[str]:
        types = column_types(self.connection, TABLE)
        return [instant(column, types[column]) for column in columns]

    def _counted(self, query: str) -> tuple[Any, ...]:
        (row,) = self.connection.execute(query).fetchall()
        return tuple(row)


def _short(label: str) -> str:
    """A whole number without its ".0", as people write it."""
    return label.removesuffix(".0") if label.removesuffix(".0").lstrip("-").isdigit() else label
