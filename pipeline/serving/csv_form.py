"""text/csv as a form of request: a line of names, then a line for each row.

A number may be missing in each of the spellings that pandas knows, which MLflow's server reads CSV with. A text is missing only
when it is empty: in the data that a model learned from, NA is a country. The index that pandas writes by default is left out.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from pipeline.serving.errors import BadRequest
from pipeline.serving.scan import MAX_TEXT_BYTES, too_long
from pipeline.serving.schema.spelling import MISSING, NUMBER, shown


def columns(
    lines: Iterable[str], numbers: Collection[str], needed: int, max_columns: int, max_rows: int
) -> dict[str, list[Any]]:
    """The columns of a text's lines by name, those in `numbers` as numbers. One row more than `max_rows` at most.

    `needed` are the columns that there must be. Raises BadRequest.
    """
    # Through a generator: the reader would take all lines of a row, thousands maybe, without letting another request in.
    reader = csv.reader((line for line in lines), strict=True)
    try:
        names = next(reader, [])
        if len(names) > max_columns + 1:
            raise BadRequest(f"the first line has {len(names)} names, and the model has {max_columns} columns")
        rows: list[list[str]] = []
        for row in reader:
            # pandas skips empty lines too.
            if row:
                rows.append(row)
            if len(rows) > max_rows:
                break
    except csv.Error as error:
        raise BadRequest(f"the body is not CSV ({error}, line {reader.line_num})") from None
    if len(names) == 1 < needed and (mark := next((mark for mark in ";\t|" if mark in names[0]), None)):
        raise BadRequest(
            f"the first line has one name, {shown(names[0])}; values must be separated by commas, not by {mark!r}"
        )
    if len(set(names)) < len(names):
        raise BadRequest(f"row 0: column {Counter(names).most_common(1)[0][0]} is given twice")
    for number, row in enumerate(rows):
        if len(row) != len(names):
            raise BadRequest(f"row {number}: must have {len(names)} values, one for each name in the first line")
    read: dict[str, list[Any]] = {
        name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=False)
    }
    read = read or {name: [] for name in names}
    if names[:1] == [""]:
        del read[""]
    return {
        name: [_number(v) for v in values] if name in numbers else _texts(name, values) for name, values in read.items()
    }


def _number(value: str) -> Any:
    """The number; the text itself where it is none, which the schema refuses by row and name."""
    value = value.strip()
    if value in MISSING:
        return None
    return float(value) if NUMBER.fullmatch(value) else value


def _texts(name: str, values: list[str]) -> list[str | None]:
    for row, value in enumerate(values):
        if len(value) > MAX_TEXT_BYTES:
            raise too_long(f"row {row}: column {name}")
    return [value or None for value in values]
