"""Which columns of numbers a model takes as float64, because float32 loses what it could learn from them.

Rounding to float32 harms in two ways, and each is measured on the window's rows:
merged  The share of pairs of rows with different values that float32 makes equal: numbers such as 1,000,000,001 and 1,000,000,002.
moved   How far float32 moves a value, as a share of the column's spread: between neighbours that it keeps apart, too.
Neither grows with the number of rows, and a few odd rows, such as 999999999 for a missing value, change neither. The largest value
alone says nothing. So rows that their hash picks are enough of a large table. All sums are of whole numbers and all quantiles are values
of the data, so that neither threads nor the order of rows change a result.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from pipeline.data import text_sql
from pipeline.data.sql import quoted
from pipeline.serving.schema import Column
from pipeline.serving.schema.columns import Precision

# A whole number may be a code, of which each may count. A fraction is a measurement: a thousand steps over its spread are enough.
LIMIT_WHOLE, LIMIT = 1e-4, 1e-3
SOME_ROWS = 100_000
# A column in which so many are no whole numbers has fractions.
FRACTIONS = 0.01
# From here on a double does not hold every whole number.
EXACT = 2**53
DIGITS_OF_EXACT = len(str(EXACT))
DAY_US, DAYS_TO_2000 = 86_400_000_000, 10_957


def precisions(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[Column], table: str = "landing"
) -> dict[str, Precision]:
    """The precision of each column of numbers or times of a table."""
    names = [column.name for column in columns]
    if not names:
        return {}
    _pick(connection, columns, table)
    rounded = ", ".join(f"coalesce(bool_or({_single(name)} IS DISTINCT FROM {quoted(name)}), FALSE)" for name in names)
    any_rounded = connection.execute(f"SELECT {rounded} FROM picked").fetchone() or ()
    return {
        name: "float64" if rounds and _loses(connection, name) else "float32"
        for name, rounds in zip(names, any_rounded, strict=True)
    }


def _pick(connection: duckdb.DuckDBPyConnection, columns: Sequence[Column], table: str) -> None:
    """Makes the table `picked`: the columns, times in days, of about SOME_ROWS rows, or of all where these are fewer than twice as many.

    Rows differ at least by their key and event time, so that equal numbers are picked or not independently.
    """
    counted = connection.execute(f"SELECT count(*) FROM {table}").fetchone() or (0,)
    every = max(1, counted[0] // SOME_ROWS)
    cells = ", ".join(f"{_cell(column)} AS {quoted(column.name)}" for column in columns)
    # No column may have this name.
    picked = f"SELECT {cells} FROM {table} AS snapshot_row WHERE hash(snapshot_row) % {every} = 0"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE picked AS {picked}")


def _cell(column: Column) -> str:
    """SQL for the number that a model gets of a column: a time is days."""
    days = f"epoch_us({quoted(column.name)}) / {DAY_US}.0 - {DAYS_TO_2000}.0"
    return days if column.kind == "datetime" else quoted(column.name)


def _loses(connection: duckdb.DuckDBPyConnection, column: str) -> bool:
    cell = quoted(column)
    counted = connection.execute(
        f"SELECT count(*) FILTER ({cell} % 1 <> 0), count(*) FROM picked WHERE isfinite({cell})"
    ).fetchone()
    fractions, rows = counted or (0, 0)
    limit = LIMIT if fractions > FRACTIONS * rows else LIMIT_WHOLE
    return moved(connection, column, "picked") > limit or merged(connection, column, "picked", "FLOAT") > limit


def merged(connection: duckdb.DuckDBPyConnection, column: str, table: str, held: str) -> float:
    """The share of pairs of rows with different values that are one value as `held`, FLOAT or DOUBLE."""
    cell = quoted(column)
    counted = connection.execute(
        f"""WITH cells AS (SELECT {cell} AS cell, count(*) AS n FROM {table} WHERE {cell} IS NOT NULL GROUP BY ALL),
                 held AS (SELECT try_cast(cell AS {held}) AS held, sum(n)::HUGEINT AS n, sum(n::HUGEINT * n) AS squares
                          FROM cells GROUP BY held)
            SELECT sum(n * n - squares)::HUGEINT, sum(n)::HUGEINT FROM held"""
    ).fetchone()
    pairs, rows = counted if counted and counted[1] else (0, 1)
    return float(pairs / rows**2)


def moved(connection: duckdb.DuckDBPyConnection, column: str, table: str) -> float:
    """How far float32 moves 95 % of the cells at most, as a share of the spread from 5 % to 95 % of them; 0 where that is 0."""
    cell = quoted(column)
    counted = connection.execute(
        f"""SELECT quantile_disc(abs({_single(column)} - {cell}), 0.95), quantile_disc({cell}, 0.95) - quantile_disc({cell}, 0.05)
            FROM {table} WHERE isfinite({cell})"""
    ).fetchone()
    by, spread = counted or (None, None)
    return by / spread if by and spread else 0.0


def lost_in_double(connection: duckdb.DuckDBPyConnection, column: str, duckdb_type: str, table: str = "rows") -> bool:
    """Whether a column of a table holds whole numbers, or their texts, so large that a double merges them."""
    base = duckdb_type.upper().split("(")[0]
    cell = quoted(column)
    if base == "VARCHAR":
        ((longest,),) = connection.execute(f"SELECT coalesce(max(length({cell})), 0) FROM {table}").fetchall()
        if longest < DIGITS_OF_EXACT:
            return False
        text = text_sql.stripped(cell)
        whole = f"CASE WHEN regexp_full_match({text}, '[+-]?[0-9]+') THEN try_cast({text} AS HUGEINT) END"
        table = f"(SELECT {whole} AS {cell} FROM {table})"
    elif base not in ("BIGINT", "UBIGINT", "HUGEINT", "UHUGEINT", "DECIMAL"):
        return False
    counted = connection.execute(f"SELECT max({cell}) >= {EXACT} OR min({cell}) <= -{EXACT} FROM {table}").fetchone()
    return bool(counted and counted[0]) and merged(connection, column, table, "DOUBLE") > LIMIT_WHOLE


def _single(column: str) -> str:
    """SQL for a cell rounded to float32; NULL where float32 cannot hold it."""
    return f"try_cast(try_cast({quoted(column)} AS FLOAT) AS DOUBLE)"
