"""What the cells of each column of a table are, counted over all rows: no sample, so that the last row counts as the first does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import duckdb

from pipeline.data import text_sql
from pipeline.data.neutral_sql import FLOATS, unfit_category
from pipeline.data.sql import column_types, is_number, quoted
from pipeline.init.table import TABLE
from pipeline.serving.schema.spelling import MISSING

# From 2000 to 2100 as a number, by its unit: what a column named as a time holds then.
EPOCHS = {
    unit: (946_684_800 * factor, 4_102_444_800 * factor)
    for unit, factor in {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}.items()
}

# A text of so many words is no name of a category.
WORDS_OF_A_TEXT = 4
# Three words that begin with a letter, as a title often has and a person's name seldom; an address of a page has no spaces.
TITLE = r"(^|\s)\p{L}\S*\s+\p{L}\S*\s+\p{L}"
# Titles have one word too, so this share is enough where most cells are different.
TITLES, MANY_TITLES = 0.3, 0.5
# Columns of a small table are counted by one query: planning one takes DuckDB 20 ms of processor time, counting 1,000 cells 2 ms. The
# different values of all its columns are in memory at once, so columns of a large table have a query each.
CELLS_AT_ONCE = 500_000


@dataclass(frozen=True)
class Facts:
    """Counts of one column's cells; a cell may count as several kinds, such as 1 as a number and a truth.

    `rows` all; `filled` neither missing nor empty; `different` values; `numbers`, `whole` numbers, `times`, `truths` (words such as yes) and
    `zeros` (a zero before a number, as in a postal code) among them; `sentences` of WORDS_OF_A_TEXT words or more, `titles` with TITLE in them. `low` and `high` of the
    numbers, `first` and `last` of the times, which have so many different `hours` and `weekdays`: one hour is that of dates.
    """

    name: str
    type: str
    rows: int
    filled: int
    different: int
    numbers: int
    whole: int
    times: int
    truths: int
    zeros: int
    sentences: int
    titles: int
    longest: int
    low: float | None
    high: float | None
    first: datetime | None
    last: datetime | None
    hours: int
    weekdays: int
    example: str

    @property
    def fits(self) -> bool:
        """Whether a cell of this type has one text or number at all; a list has none."""
        return self.is_time or not unfit_category(self.type)

    @property
    def digits_lost(self) -> bool:
        """Whether its numbers are too large for its type: then it says of no row which one it is."""
        return max(abs(self.low or 0), abs(self.high or 0)) >= FLOATS.get(self.type, math.inf)

    @property
    def is_number(self) -> bool:
        """Nearly all its cells are numbers, or words such as yes, and none is a name that looks like one."""
        mostly = max(self.numbers, self.truths) >= 0.95 * self.filled
        return self.filled > 0 and not self.zeros and (mostly or is_number(self.type))

    @property
    def unread(self) -> int:
        """The cells that are no number and no truth, if it is to hold numbers."""
        return self.filled - max(self.numbers, self.truths)

    @property
    def is_truth(self) -> bool:
        return self.filled > 0 and (self.type == "BOOLEAN" or self.truths >= 0.95 * self.filled)

    def with_digits_as_truths(self) -> Facts:
        """Where words such as yes and no stand beside 1 and 0, and are more, all of them are truths; else as it is."""
        digits = self.whole == self.numbers and self.low is not None and self.low >= 0 and (self.high or 0) <= 1
        mixed = self.type == "VARCHAR" and 0 < self.numbers < self.truths and digits and not self.zeros
        return replace(self, truths=self.truths + self.numbers) if mixed else self

    @property
    def is_time(self) -> bool:
        return self.filled > 0 and self.times >= 0.95 * self.filled

    @property
    def epoch(self) -> str | None:
        """The unit of times that are numbers since 1970, with a fraction or without, of a column that may hold such."""
        if not self.filled or self.numbers < self.filled or self.low is None or self.high is None or self.different < 3:
            return None
        return next((unit for unit, (first, end) in EPOCHS.items() if first <= self.low and self.high < end), None)

    @property
    def is_text(self) -> bool:
        return self.sentences > 0.5 * max(self.filled, 1) or self.holds_titles

    @property
    def holds_titles(self) -> bool:
        """Short texts of several words, most of them different: what repeats is the words."""
        return (
            self.filled >= 50
            and self.different > MANY_TITLES * self.filled
            and self.titles > TITLES * self.filled
            and not self.is_time
        )

    @property
    def identifies(self) -> bool:
        """Another value in nearly each row, as a name, not as a measurement."""
        fraction = self.numbers > self.whole
        return (
            self.filled >= 50 and self.different > 0.9 * self.filled and not (fraction or self.is_time or self.is_text)
        )


def count(connection: duckdb.DuckDBPyConnection, decimal: str = ".") -> list[Facts]:
    """The facts of each column of the table TABLE, in its order."""
    types = column_types(connection, TABLE)
    (rows,) = connection.execute(f"SELECT count(*) FROM {TABLE}").fetchone() or (0,)
    at_once = max(1, CELLS_AT_ONCE // rows) if rows else 1
    counted: dict[str, Facts] = {}
    for duckdb_type in dict.fromkeys(types.values()):
        of_type = [column for column in types if types[column] == duckdb_type]
        for first in range(0, len(of_type), at_once):
            counted |= _of_columns(connection, of_type[first : first + at_once], duckdb_type, decimal)
    return [counted[column] for column in types]


def _of_columns(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[str], duckdb_type: str, decimal: str
) -> dict[str, Facts]:
    """By name, for columns of one type."""
    sql = _expressions(duckdb_type, decimal)
    filled = f"({sql['filled']})"
    given = ", ".join(map(quoted, columns))
    # One column needs no groups, and a table without rows would have none.
    places, cells, groups = "0", given, ""
    if len(columns) > 1:
        places, cells, groups = f"unnest(range({len(columns)}))", f"unnest([{given}])", "GROUP BY place"
    query = f"""
        SELECT {"place" if groups else "0"}, count(*), count(*) FILTER ({filled}), count(DISTINCT cell) FILTER ({filled}),
            count(number) FILTER ({filled}), count(*) FILTER ({filled} AND number = trunc(number)),
            count(time) FILTER ({filled}), count(*) FILTER ({filled} AND {sql["truth"]}),
            count(*) FILTER ({filled} AND regexp_matches(cell, '^[+-]?0[0-9]')),
            count(*) FILTER ({filled} AND len(string_split(cell, ' ')) >= {WORDS_OF_A_TEXT}),
            count(*) FILTER ({filled} AND regexp_matches(cell, {text_sql.literal(TITLE)})),
            coalesce(max(length(cell)), 0), min(number), max(number), min(time), max(time),
            count(DISTINCT hour(time)) FILTER ({filled}), count(DISTINCT isodow(time)) FILTER ({filled}), coalesce(min(cell) FILTER ({filled}), '')
        FROM (SELECT place, {sql["cell"]} AS cell, {sql["number"]} AS number, {sql["time"]} AS time
              FROM (SELECT place, {sql["stripped"]} AS stripped, given
                    FROM (SELECT {places} AS place, {cells} AS given FROM {TABLE}))) {groups}"""
    found = connection.execute(query).fetchall()
    return {columns[place]: Facts(columns[place], duckdb_type, *row) for place, *row in found}


def _expressions(duckdb_type: str, decimal: str) -> Mapping[str, str]:
    """SQL over `given`, a cell, and `stripped`, its text without spaces around it."""
    base = duckdb_type.upper().split("(")[0]
    if base == "VARCHAR":
        missing = ", ".join(text_sql.literal(text) for text in sorted({*MISSING, ""}))
        return {
            "stripped": text_sql.stripped("given"),
            "cell": "stripped",
            "number": text_sql.number("stripped", decimal),
            "time": text_sql.time("stripped"),
            "truth": text_sql.is_word("cell"),
            "filled": f"cell IS NOT NULL AND cell NOT IN ({missing})",
        }
    # An infinite cell is no number, and NaN is a missing one.
    number, filled = "NULL::DOUBLE", "cell IS NOT NULL"
    if is_number(duckdb_type):
        number = "CASE WHEN isfinite(CAST(given AS DOUBLE)) THEN CAST(given AS DOUBLE) END"
        filled = "cell IS NOT NULL AND NOT ends_with(cell, 'nan')"
    time = "CAST(given AS TIMESTAMPTZ)" if base.startswith(("DATE", "TIMESTAMP")) else "NULL::TIMESTAMPTZ"
    return {
        "stripped": "NULL",
        "cell": "CAST(given AS VARCHAR)",
        "number": number,
        "time": time,
        "truth": "FALSE" if base != "BOOLEAN" else "TRUE",
        "filled": filled,
    }


def by_name(facts: Sequence[Facts]) -> dict[str, Facts]:
    return {each.name: each for each in facts}
