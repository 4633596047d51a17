"""Columns whose times are written in another way than the rule reads, or in several: 2024-03-01 beside 01/03/2024 10:00 or 1709251200.

As they stand they are texts that hardly ever come again, and would be left out for a wrong reason. So `init` says in which ways they are
written, and the SELECT that reads them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote

import numpy as np

from pipeline.data import text_sql
from pipeline.data.sql import quoted
from pipeline.errors import DataError
from pipeline.init.facts import EPOCHS, Facts
from pipeline.init.odd_cells import FORMATS, OddCells
from pipeline.init.request import Assumption

# So many ways are looked for, and each must have this share of the cells; together they are nearly all.
MOST_WAYS, FEWEST, NEARLY_ALL = 4, 0.002, 0.95
RULE = "2024-03-01T09:00:00Z"
# Days from 1954 to 2119.
EXCEL = 20_000, 80_000


@dataclass(frozen=True)
class Way:
    """`shown` is its name for people, `reads` the SQL for the time of a cell that is written so; `share` of the cells are, like `example`."""

    shown: str
    reads: str
    share: float
    example: str
    # Another form that reads as many of them, such as the month before the day.
    unsure: str = ""

    def __str__(self) -> str:
        other = f", or {self.unsure}: both fit" if self.unsure else ""
        form = f" ({self.shown}{other})" if self.shown != RULE else ""
        return f"{self.share:.1%} like {self.example!r:.40}{form}"


def say(each: Facts, odd: OddCells, said: list[Assumption]) -> bool:
    """Says in which ways the cells of a feature's column of texts are times; False where there is nothing to say."""
    if each.is_time and each.times == each.filled:
        return False
    ways = of(each, odd)
    if not ways or ways[0].shown == RULE and len(ways) == 1:
        return False
    why = f"{_listed(ways)}, and a time is like {RULE}"
    said.append(Assumption("times as texts", each.name, why, _advice(each, odd, ways)))
    return True


def refuse(subject: str, each: Facts, odd: OddCells) -> None:
    """Raises DataError, with the SELECT that reads them, for a column of texts that are times of other forms than the rule's."""
    if each.type != "VARCHAR" or not (ways := of(each, odd)) or (len(ways) == 1 and ways[0].shown == RULE):
        return
    if len(ways) > 1:
        raise DataError(
            subject, f"has times in {len(ways)} ways, {_listed(ways)}, and one is like {RULE}", _advice(each, odd, ways)
        )
    raise DataError(
        subject,
        f"has times of the form {ways[0].shown}, like {ways[0].example!r:.40}, and a time is like {RULE}",
        _advice(each, odd, ways),
    )


def refuse_excel(subject: str, each: Facts, odd: OddCells) -> None:
    """Raises DataError, with the SELECT that reads them, for numbers that are days as Excel counts them. Only of a column that somebody
    calls a time: others hold prices."""
    first, last = EXCEL
    if each.numbers < each.filled or each.low is None or each.high is None or each.low < first or each.high >= last:
        return
    sql = f"TIMESTAMP '1899-12-30' + to_seconds(round(try_cast({quoted(each.name)} AS DOUBLE) * 86400)::BIGINT)"
    raise DataError(
        subject,
        f"has numbers like {each.example!r:.40}, which are days since 1899-12-30 where Excel wrote them, and a time is like {RULE}",
        f"read them with --data {odd.select(each.name, sql)}",
    )


def of(each: Facts, odd: OddCells) -> list[Way]:
    """The ways in which nearly all cells of a column of texts are times, the most frequent first; [] for other columns."""
    cells = odd.some_cells(each.name)
    if not cells or not _may_be_times(cells):
        return []
    ways = _all_ways(odd.origin.csv.decimal)
    read = _read(odd, cells, [reads for _, reads, _ in ways])
    left = np.ones(len(cells), bool)
    found: list[tuple[str, str, np.ndarray, str]] = []
    while left.any() and len(found) < MOST_WAYS:
        counts = (read & left).sum(axis=1)
        best = int(counts.argmax())
        if counts[best] < max(1, FEWEST * len(cells)):
            break
        (shown, _, written), taken = ways[best], read[best] & left
        others = [ways[place][0] for place in np.flatnonzero(counts == counts[best]) if place != best]
        # Of forms that read the very same cells those of another length are the same with zeros.
        unsure = next((other for other in others if other.startswith("%") and len(other) == len(shown)), "")
        found.append((shown, written, taken, unsure))
        left &= ~taken
    if left.sum() > (1 - NEARLY_ALL) * len(cells):
        return []
    return [
        Way(shown, written, float(taken.mean()), cells[int(np.flatnonzero(taken)[0])], unsure)
        for shown, written, taken, unsure in found
    ]


def _may_be_times(cells: Sequence[str]) -> bool:
    """Whether most cells are short and have the digits of a date: asking DuckDB for all forms costs ten times as much."""
    dates = [6 <= len(cell) <= 40 and sum(letter.isdigit() for letter in cell) >= 3 for cell in cells]
    return sum(dates) >= NEARLY_ALL * len(cells)


def _read(odd: OddCells, cells: Sequence[str], ways: Sequence[str]) -> np.ndarray:
    """Which of the ways, SQL for the time of `cell`, read which of the cells: bool (ways, cells)."""
    query = f"SELECT [{', '.join(f'({way}) IS NOT NULL' for way in ways)}] FROM (SELECT unnest($1::VARCHAR[]) AS cell)"
    return np.array([row for (row,) in odd.connection.execute(query, [list(cells)]).fetchall()], bool).T


def _all_ways(decimal: str) -> list[tuple[str, str, str]]:
    """(name, SQL that is the time of `cell` or NULL, the same as a person writes it for the column {0})."""
    ways = [(RULE, text_sql.time("cell"), "try_cast({0} AS TIMESTAMPTZ)")]
    for unit, (first, end) in EPOCHS.items():
        number, factor = text_sql.number("cell", decimal), first // EPOCHS["s"][0]
        ways.append(
            (
                f"{unit} since 1970",
                f"CASE WHEN {number} >= {first} AND {number} < {end} THEN TIMESTAMPTZ 'epoch' END",
                f"to_timestamp(try_cast({{0}} AS DOUBLE){f' / {factor:_}' if factor > 1 else ''})",
            )
        )
    for form in FORMATS:
        time = f"try_strptime(cell, {text_sql.literal(form)})"
        written = f"try_strptime({{0}}, {text_sql.literal(form)})"
        ways.append((form, f"CASE WHEN year({time}) BETWEEN 1900 AND 2100 THEN {time} END", written))
    return ways


def _listed(ways: Sequence[Way]) -> str:
    return ", ".join(map(str, ways))


def _advice(each: Facts, odd: OddCells, ways: Sequence[Way]) -> str:
    """The SELECT, or why there is none."""
    forms = [way.shown for way in ways]
    if any(_swapped(form) in forms for form in forms if _swapped(form) != form):
        return f"nobody can tell the day from the month in both: correct the data, or --leave-out {quote(each.name)}"
    column = quoted(each.name)
    parts = [way.reads.format(column) for way in ways]
    sql = parts[0] if len(parts) == 1 else f"coalesce({', '.join(parts)})"
    return f"read them with --data {odd.select(each.name, sql)}"


def _swapped(form: str) -> str:
    """The form with month and day in each other's place."""
    return form.replace("%d", "\0").replace("%m", "%d").replace("\0", "%m")
