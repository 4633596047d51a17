"""DuckDB SQL for the neutral form of a cell: what a partition stores.

It depends on the cell alone, never on the type that a file, a glob or a frame gives its column: a file with one missing value turns a
column of integers into DOUBLE, and 2 is still "2". The schema turns the neutral form into a value (see pipeline.serving.schema), when a
partition is read.
"""

from __future__ import annotations

from pipeline.data.sql import is_number, quoted

# As DuckDB writes them; a parameter, as in DECIMAL(18,3), is cut off.
# A column that is empty everywhere has the type NULL.
TEXTS = ("VARCHAR", "ENUM", "UUID", "DATE", "NULL")
FLOATS = {"FLOAT": 2**24, "DOUBLE": 2**53}


def category(column: str, duckdb_type: str) -> str:
    """A category's text; NULL for an empty text and NaN. For a type of `unfit_category` it has no meaning."""
    return f"nullif({_text(column, duckdb_type)}, '')"


def key(column: str, duckdb_type: str) -> str:
    """A key's text, as `pipeline.serving.schema.spelling.key` reads it."""
    text = category(column, duckdb_type)
    if _base(duckdb_type) != "VARCHAR":
        return text
    whole = (
        f"CASE WHEN regexp_full_match({text}, '-?(0|[1-9][0-9]*)\\.0+') THEN split_part({text}, '.', 1) ELSE {text} END"
    )
    return f"CASE {whole} WHEN '-0' THEN '0' ELSE {whole} END"


def _text(column: str, duckdb_type: str) -> str:
    cell, base = quoted(column), _base(duckdb_type)
    text = f"CAST({cell} AS VARCHAR)"
    if base in FLOATS:
        whole = f"CAST(CAST({cell} AS HUGEINT) AS VARCHAR)"
        return (
            f"CASE WHEN isnan({cell}) THEN NULL WHEN isinf({cell}) THEN {text} "
            f"WHEN abs({cell}) < 1e38 AND {cell} = trunc({cell}) THEN {whole} "
            f"WHEN contains({text}, 'e-') THEN {_without_exponent(text)} ELSE {text} END"
        )
    if base == "DECIMAL" and not duckdb_type.replace(" ", "").endswith(",0)"):
        return f"rtrim(rtrim({text}, '0'), '.')"
    return text


def _without_exponent(text: str) -> str:
    """SQL for a fraction such as 1.5e-05 in plain digits, 0.000015, as a request's number is read."""
    digits = f"regexp_replace(split_part({text}, 'e', 1), '[-.]', '', 'g')"
    zeros = f"repeat('0', CAST(split_part({text}, 'e-', 2) AS INTEGER) - 1)"
    return f"concat(CASE WHEN starts_with({text}, '-') THEN '-' ELSE '' END, '0.', {zeros}, {digits})"


def is_time(duckdb_type: str) -> bool:
    """Whether a column of this type holds times, or dates."""
    return duckdb_type.startswith(("DATE", "TIMESTAMP")) and not duckdb_type.endswith("]")


def unfit_category(duckdb_type: str) -> bool:
    """Whether a column of this type holds no categories: times, lists, structs and bytes have no one text."""
    return _base(duckdb_type) not in TEXTS and not is_number(duckdb_type)


def lost_digits(column: str, duckdb_type: str) -> str | None:
    """SQL that is true for a cell whose last digits were lost before it was read; None for a type that loses none."""
    largest = FLOATS.get(_base(duckdb_type))
    return None if largest is None else f"(isinf({quoted(column)}) OR abs({quoted(column)}) >= {largest})"


def _base(duckdb_type: str) -> str:
    # A list's type begins with that of its items: INTEGER[].
    return "LIST" if duckdb_type.endswith("]") else duckdb_type.upper().split("(")[0].strip(chr(34))
