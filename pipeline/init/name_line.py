"""The line of column names in a CSV, known by the target's: above it there may be a title, or Excel's `sep=;`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from pipeline.errors import DataError

# More lines than this stand above no table that somebody exported.
MOST_ABOVE = 20


def cells(lines: Sequence[str], delimiter: str) -> list[str]:
    """The cells of the first of the `lines`, and of those that a quoted cell goes on in, without the mark of utf-8."""
    return next(csv.reader([line.lstrip("\ufeff") for line in lines], delimiter=delimiter), [])


def delimiter_by_name(line: str, delimiters: str, column: str) -> str | None:
    """The delimiter that makes `column` one of several cells of the first line, if there is one."""
    found = {mark: cells([line], mark) for mark in delimiters}
    return next((mark for mark, names in found.items() if column in names and len(names) > 1), None)


def refuse_lines_above(file: Path, lines: Sequence[str], delimiters: str, column: str) -> None:
    """Raises DataError where the line that has `column`, and more cells than each line above it, is not the first of the `lines`."""
    for mark in delimiters:
        most = 0
        for number, line in enumerate(lines[: MOST_ABOVE + 1], start=1):
            filled = [cell for cell in cells([line], mark) if cell.strip()]
            if number > 1 and column in filled and len(filled) > max(most, 1):
                above = f"{number - 1} line{'s' if number > 2 else ''} above"
                raise DataError(
                    str(file),
                    f"has its column names in line {number}, and {above} them",
                    f"write it without: `tail -n +{number} {quote(file.name)}`",
                )
            most = max(most, len(filled))
