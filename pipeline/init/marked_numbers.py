"""Which of a point and a comma is the decimal mark in a column of numbers with marks, such as 1.234,50 € and 999 €.

All cells are looked at: by one alone, 999 €, nobody can know, and a wrong guess reads 12,50 € as 1250.
"""

from __future__ import annotations

from collections.abc import Set

import duckdb

from pipeline.data import text_sql
from pipeline.errors import DataError

# Digits that are none of ASCII's, ten by ten from zero, and what else a number may be written with there: the minus of Norwegian and
# Swedish, the marks of Arabic and of Japanese.
SCRIPTS = ("٠١٢٣٤٥٦٧٨٩", "۰۱۲۳۴۵۶۷۸۹", "०१२३४५६७८९", "০১২৩৪৫৬৭৮৯", "０１２３４５６７８９")
SIGNS = {"\u2212": "-", "\uff0d": "-", "\uff0b": "+", "\u066b": ".", "\uff0e": ".", "\u066c": ",", "\uff0c": ","}


def in_ascii(cell: str, written: Set[str] | None = None) -> str:
    """SQL for the text `cell` with ASCII's digits and signs, of all scripts or of those among the characters `written`."""
    scripts = [script for script in SCRIPTS if written is None or not written.isdisjoint(script)]
    signs = [sign for sign in SIGNS if written is None or sign in written]
    if not scripts and not signs:
        return cell
    given = text_sql.literal("".join((*scripts, *signs)))
    wanted = text_sql.literal("0123456789" * len(scripts) + "".join(SIGNS[sign] for sign in signs))
    return f"translate({cell}, {given}, {wanted})"


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
    # In India after each second digit but for the last three.
    thousands = rf"[{other}]\d{{2,3}}[{other}]"
    pattern = "|".join((last, zero, both, thousands))
    return f"regexp_matches(cell, {text_sql.literal(pattern)})"
