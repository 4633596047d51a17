"""Cells that people read as numbers or times and the rules of params.yaml do not: 1,234.50, $12, 31.12.2024, or a ? among numbers.

A column of such would be a category of thousands of values, or be left out for a wrong reason. It is refused with the SELECT that reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from shlex import quote

import duckdb

from pipeline.data import text_sql
from pipeline.data.sql import quoted
from pipeline.errors import DataError
from pipeline.init.facts import Facts
from pipeline.init.marked_numbers import decimal_mark, in_ascii
from pipeline.init.request import Request
from pipeline.init.table import TABLE, Origin

_CURRENCY = "[$€£¥%]"
# Thousands, and as in India: 12,34,567.
_NUMBER = r"[+-]?(\d{1,3}([.,'’ \x{00a0}\x{202f}]\d{3})+|\d{1,2}(,\d{2})+,\d{3}|\d+)([.,]\d+)?"
# In accounts a negative number is in brackets.
MARKED = rf"[+-]?\(?{_CURRENCY}?\s?{_NUMBER}\s?{_CURRENCY}?\)?"
# A column of so many different numbers is none of categories, and so few other texts in it are words for a missing one.
MANY_NUMBERS, FEW_WORDS = 50, 5
LOOKED_AT = 1000
_DAYS = ("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%Y-%m-%d")
_WORDS = (
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%d-%b-%Y",
    "%a, %d %b %Y",
    "%Y-%m",
    "%m/%Y",
    "%b %Y",
    "%d.%m.%y",
    "%m/%d/%y",
    "%d/%m/%y",
)
FORMATS = [
    f"{day}{time}" for time, day in product(("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p"), (*_DAYS, *_WORDS))
]


@dataclass(frozen=True)
class OddCells:
    """Looks at the texts of the table TABLE, which is from `origin` and has these columns."""

    connection: duckdb.DuckDBPyConnection
    origin: Origin
    columns: Mapping[str, Facts]

    def refuse_numbers(self, request: Request) -> None:
        """Raises DataError for a column of numbers with marks, or with words among them, that no flag names."""
        named = {request.time, request.key, request.label_time, *request.categorical, *request.text, *request.leave_out}
        for each in self.columns.values():
            if each.type == "VARCHAR" and each.name not in named and not (each.is_number or each.is_time or each.zeros):
                self._refuse_number(each, each.name == request.target)

    def _refuse_number(self, each: Facts, is_target: bool) -> None:
        cell, missing = "cell", f"NOT {text_sql.is_missing('cell')}"
        number = text_sql.number(cell, self.origin.csv.decimal)
        marked = f"{number} IS NULL AND regexp_full_match({in_ascii('cell')}, {text_sql.literal(MARKED)})"
        cells = f"SELECT {text_sql.stripped(quoted(each.name))} AS cell FROM {TABLE}"
        sign = f"regexp_extract(cell, {text_sql.literal(_CURRENCY)})"
        ((marks, signs, numbers, different, words, one, other),) = self.connection.execute(
            f"""SELECT count(*) FILTER ({marked}), list(DISTINCT {sign}) FILTER ({marked} AND {sign} <> ''), count({number}), count(DISTINCT {number}),
                count(DISTINCT cell) FILTER ({number} IS NULL), max_by(cell, length(cell)) FILTER ({marked}), mode(cell) FILTER ({number} IS NULL)
            FROM ({cells}) WHERE cell IS NOT NULL AND {missing}"""
        ).fetchall()
        otherwise = "" if is_target else f", or --categorical {quote(each.name)}, or --leave-out {quote(each.name)}"
        if marks > 0.05 * each.filled and marks + numbers >= 0.95 * each.filled:
            kind = f"SELECT {in_ascii('cell')} AS cell FROM ({cells}) WHERE {marked} OR {number} IS NOT NULL"
            mark = decimal_mark(self.connection, each.name, kind, self.origin.csv.decimal)
            self._refuse_several(each.name, sorted(signs or ()), numbers)
            self._refuse_marked(each, one, marks, mark, otherwise)
        if numbers >= 0.5 * each.filled and different > MANY_NUMBERS and words <= FEW_WORDS:
            pointed = f"replace({quoted(each.name)}, ',', '.')" if self.origin.csv.decimal == "," else quoted(each.name)
            read = f"try_cast(trim({pointed}) AS DOUBLE)"
            # An infinity is a double too, and no row with one is learnt from.
            finite = f"CASE WHEN isfinite({read}) THEN {read} END" if re.search("inf", other, re.IGNORECASE) else read
            raise DataError(
                f"--data column {each.name}",
                f"is a number in {numbers:,} of {each.filled:,} rows, and {other!r} in most others",
                f"make that a missing value, for example with --data {self.select(each.name, finite)}{otherwise}",
            )

    def _refuse_marked(self, each: Facts, one: str, marks: int, mark: str, otherwise: str) -> None:
        """Raises DataError for `marks` cells such as `one`, with the SELECT that reads them by the decimal `mark`."""
        written = {*one, *"".join(self.some_cells(each.name))}
        sql = {cell: _without_marks(in_ascii(cell, written), mark) for cell in ("cell", quoted(each.name))}
        ((reads,),) = self.connection.execute(f"SELECT {sql['cell']} FROM (SELECT $1 AS cell)", [one]).fetchall()
        what = "marks in them" if in_ascii("cell", written) == "cell" else "other digits or signs than ASCII's"
        raise DataError(
            f"--data column {each.name}",
            f"has numbers with {what}, like {one!r}, in {marks:,} of {each.filled:,} rows",
            f"take the marks out, for example with --data {self.select(each.name, sql[quoted(each.name)])}, "
            f"which reads {one!r} as {reads:.15g}{otherwise}",
        )

    def _refuse_several(self, column: str, signs: list[str], numbers: int) -> None:
        """Raises DataError for numbers of which no rule makes one measure: $ beside €, and 45 % beside 0.45 or 45."""
        if len(signs) > 1 or ("%" in signs and numbers):
            beside = f"and {numbers:,} numbers without one" if len(signs) == 1 else "and they are not one measure"
            raise DataError(
                f"--data column {column}",
                f"has numbers with {' and '.join(signs)}, {beside}",
                f"make numbers of one measure of them in a SELECT as --data, or --leave-out {quote(column)}",
            )

    def some_cells(self, column: str) -> list[str]:
        """Up to LOOKED_AT cells of a column of texts that are not missing, from anywhere in the table, without spaces around them."""
        # A file is often in an order, and its first rows are written alike.
        some = f"SELECT {quoted(column)} AS given FROM {TABLE} WHERE given IS NOT NULL ORDER BY hash(rowid) LIMIT {LOOKED_AT}"
        cells = f"SELECT {text_sql.stripped('given')} AS cell FROM ({some})"
        query = f"SELECT cell FROM ({cells}) WHERE cell <> '' AND NOT {text_sql.is_missing('cell')}"
        return [str(cell) for (cell,) in self.connection.execute(query).fetchall()]

    def select(self, column: str, sql: str) -> str:
        """The query in the quotes of a shell."""
        before = f"{self.origin.before}; " if self.origin.before else ""
        query = f"{before}SELECT * REPLACE ({sql} AS {quoted(column)}) FROM {self._relation(column)}"
        return '"' + re.sub(r'(["$`\\])', r"\\\1", query) + '"'

    def _relation(self, column: str) -> str:
        """The table as SQL, the column a text."""
        if self.origin.query is not None:
            return f"({self.origin.query})"
        files = text_sql.literal(self.origin.files[0])
        if not self.origin.is_csv:
            return f"read_parquet({files})"
        form = self.origin.csv
        encoding = f", encoding = {text_sql.literal(form.encoding)}" if form.encoding != "utf-8" else ""
        delimiter = f", delim = {text_sql.literal(form.delimiter)}" if form.delimiter != "," else ""
        decimal = f", decimal_separator = {text_sql.literal(form.decimal)}" if form.decimal != "." else ""
        types = f"types = {{{text_sql.literal(column)}: 'VARCHAR'}}"
        return f"read_csv({files}, sample_size = -1, {types}{delimiter}{decimal}{encoding})"


def _without_marks(cell: str, mark: str) -> str:
    """SQL for the number that the text `cell` has beside its marks; `mark` is the decimal one."""
    digits = f"regexp_replace(replace({cell}, '(', '-'), '[^0-9{mark}+-]', '', 'g')"
    pointed = digits if mark == "." else f"replace({digits}, ',', '.')"
    return f"try_cast({pointed} AS DOUBLE)"
