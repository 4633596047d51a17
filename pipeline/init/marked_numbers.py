"""Which of a point and a comma is the decimal mark in a column of numbers with marks, such as 1.234,50 € and 999 €.

All cells are looked at: by one alone, 999 €, nobody can know, and a wrong guess reads 12,50 € as 1250.
"""

from __future__ import annotations

import duckdb

from pipeline.data import text_sql
from pipeline.errors import DataError


def decimal_mark(connection: duckdb.DuckDBPyConnection, column: str, cells: str, decimal: str) -> str:
    """`.` or `,` for the column; `cells` is a SELECT of its texts as `cell`, `decimal` the mark of the other numbers of the table.

    Raises DataError where some cells have it as one and some as the other.
    """
    shown = {mark: _shows(mark, other) for mark, other in ((".", ","), (",", "."))}
    counts = ", ".join(f"count(*) FILTER ({sql}), min(cell) FILTER ({sql})" for sql in shown.values())
    fewer = "count(*) FILTER (NOT regexp_matches(cell, '[.,]'))"
    ((points, point, commas, comma, whole),) = connection.execute(f"SELECT {counts}, {fewer} FROM ({cells})").fetchall()
    if points and commas:
        raise DataError(
            f"--data column {column}",
            f"has numbers like {point!r} and like {comma!r}: a comma is a decimal mark in one and none in the other",
            "write all of them in one way, or leave the column out (--leave-out)",
        )
    if points or commas:
        return "." if points else ","
    # All marks stand before three digits. Beside whole numbers they are thousands; else the table's other numbers say.
    return decimal if not whole else _other_of_most(connection, cells, decimal)


def _other_of_most(connection: duckdb.DuckDBPyConnection, cells: str, decimal: str) -> str:
    """The mark that no cell has, since the other one parts thousands."""
    ((points, commas),) = connection.execute(
        f"SELECT count(*) FILTER (contains(cell, '.')), count(*) FILTER (contains(cell, ',')) FROM ({cells})"
    ).fetchall()
    return decimal if points == commas else "," if points > commas else "."


def _shows(mark: str, other: str) -> str:
    """SQL that is true for a cell in which `mark` can be nothing but the decimal mark, or `other` nothing but one of thousands."""
    last = rf"[{mark}](\d{{1,2}}|\d{{4,}})(\D*)$"
    zero = rf"(^|\D)0[{mark}]\d"
    both = rf"[{other}]\d+[{mark}]"
    thousands = rf"[{other}]\d{{3}}[{other}]"
    pattern = "|".join((last, zero, both, thousands))
    return f"regexp_matches(cell, {text_sql.literal(pattern)})"
