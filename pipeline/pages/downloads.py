"""A page's table as a file: CSV, whose cells a spreadsheet takes for no formulas, and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.ledger.chain import writable

# A spreadsheet takes a cell that begins so for a formula, and reckons or fetches what it names (OWASP, CSV injection).
FORMULA = tuple("=+-@\t\r\n＝＋－＠")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Table:
    """Rows by the names of their columns, as JSON takes them."""

    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]

    def csv(self) -> str:
        """With a header; what nobody knows is empty, and an object is JSON."""
        return as_csv(self.columns, self.rows)

    def json(self) -> str:
        """A list of objects; a figure that is no number is null."""
        return as_json(list(self.rows))


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows([cell(row.get(column)) for column in columns] for row in rows)
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
