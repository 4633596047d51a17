"""A page's table as a file: CSV, whose cells a spreadsheet takes for no formulas, and JSON."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.ledger.chain import writable

# A spreadsheet takes a cell that begins so for a formula, and reckons or fetches what it names (OWASP, CSV injection).
FORMULA = tuple("=+-@\t\r\n＝＋－＠")
# So many rows of a file are made and sent at once.
ROWS_AT_ONCE = 100
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Table:
    """Rows by the names of their columns, as JSON takes them. Rows that are read as they are asked for can be asked for once."""

    columns: Sequence[str]
    rows: Iterable[Mapping[str, Any]]

    def csv(self) -> str:
        """With a header; what nobody knows is empty, and an object is JSON."""
        return "".join(self.csv_parts())

    def json(self) -> str:
        """A list of objects; a figure that is no number is null."""
        return "".join(self.json_parts())

    def csv_parts(self) -> Iterator[str]:
        """The same, ROWS_AT_ONCE at a time."""
        header: list[Sequence[Any]] = [self.columns]
        for rows in _parts(self.rows):
            yield _as_csv([*header, *([cell(row.get(column)) for column in self.columns] for row in rows)])
            header = []
        if header:
            yield _as_csv(header)

    def json_parts(self) -> Iterator[str]:
        """The same, ROWS_AT_ONCE at a time."""
        before = "["
        for rows in _parts(self.rows):
            yield before + as_json(rows)[1:-1]
            before = ", "
        yield "[]" if before == "[" else "]"


def _parts(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    left = iter(rows)
    while part := list(itertools.islice(left, ROWS_AT_ONCE)):
        yield part


def _as_csv(rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return writable(out.getvalue())


def as_json(value: Any) -> str:
    """JSON that any reader takes: a figure that is no number is null, and half a surrogate pair stays an escape."""
    return writable(json.dumps(_plain(value), allow_nan=False, default=str, ensure_ascii=False))


def cell(value: Any) -> str:
    """The value as a cell: text that would be a formula gets an apostrophe before it, which spreadsheets do not show. Numbers stay."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(_plain(value), default=str, ensure_ascii=False)
    text = str(value)
    harmless = isinstance(value, bool | int | float) or NUMBER.fullmatch(text) is not None
    return text if harmless or not text.startswith(FORMULA) else f"'{text}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
