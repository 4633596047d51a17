"""Counts files into profiles by GROUP BY over bucket numbers: DuckDB then holds as many numbers as there are cells. `in_memory` counts tables.

Numbers are counted several columns a query, since for a window of some thousand rows the query itself is what takes time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from pipeline.data.sql import column_types, quoted
from pipeline.monitoring.profiles.layout import ColumnLayout, Layout
from pipeline.monitoring.profiles.profile import Profile
from pipeline.monitoring.profiles.slices import Slice

# All rows in one profile.
NO_DAY = "CAST(NULL AS DATE)"
COLUMNS_A_QUERY = 16
Counts = Iterator[tuple[ColumnLayout, Any, int, int]]


def profiles(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    layout: Layout,
    learnt: Mapping[str, Collection[str]] | None = None,
    day: str = NO_DAY,
) -> dict[Any, Profile]:
    """The profile of each day of `relation` (a table, or a SELECT in brackets); `day` is the SQL of a row's date, or of another part
    that it belongs to.

    `learnt` has the categories that a model knows, by column; without them none counts as unknown.
    """
    types = column_types(connection, relation)
    counted = connection.execute(f"SELECT {day} AS day, count(*) FROM {relation} GROUP BY 1 ORDER BY 1").fetchall()
    rows = dict(counted)
    cells: dict[Any, dict[str, np.ndarray]] = {at: {} for at in rows}
    there = [column for column in layout.columns if column.needs <= {*types}]
    for column in there:
        for at in rows:
            cells[at][column.name] = np.zeros(column.cells, dtype=np.int64)
    plain = [column for column in there if column.where is None]
    for column, at, cell, count in _counted(connection, relation, plain, learnt or {}, day):
        cells[at][column.name][cell] += count
    for by, sliced in _by_slicing_column(there).items():
        slices = list(dict.fromkeys(column.where for column in sliced))
        at_slice = {(column.feature, column.where): column.name for column in sliced}
        features = {column.feature: replace(column, name=column.feature, where=None) for column in sliced}
        rows_of = f"(SELECT * FROM {relation} WHERE {_slice_number(by, slices)} IS NOT NULL)"
        key = f"row({day}, {_slice_number(by, slices)})"
        for column, (at, number), cell, count in _counted(
            connection, rows_of, list(features.values()), learnt or {}, key
        ):
            if name := at_slice.get((column.feature, slices[number])):
                cells[at][name][cell] += count
    return {at: Profile(rows[at], cells[at]) for at in rows}


def _counted(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    columns: Sequence[ColumnLayout],
    learnt: Mapping[str, Collection[str]],
    day: str,
) -> Counts:
    numbers = [column for column in columns if column.kind == "number"]
    for start in range(0, len(numbers), COLUMNS_A_QUERY):
        yield from _of_numbers(connection, relation, numbers[start : start + COLUMNS_A_QUERY], day)
    for column in columns:
        if column.kind == "category":
            yield from _of_category(connection, relation, column, learnt.get(column.feature), day)


def _by_slicing_column(columns: Sequence[ColumnLayout]) -> dict[str, list[ColumnLayout]]:
    found: dict[str, list[ColumnLayout]] = {}
    for column in columns:
        if column.where is not None:
            found.setdefault(column.where.column, []).append(column)
    return found


def _slice_number(by: str, slices: Sequence[Slice | None]) -> str:
    """SQL for the number of the slice that a row is in, NULL for none."""
    cases = "".join(f" WHEN {_is_in(by, of)} THEN {number}" for number, of in enumerate(slices) if of)
    return f"CASE{cases} END"


def _is_in(by: str, of: Slice) -> str:
    if of.value is not None:
        return f"CAST({quoted(by)} AS VARCHAR) = {_text(of.value)}"
    value = f"CAST({quoted(by)} AS DOUBLE)"
    return f"NOT isnan({value}) AND {value} > {_number(of.above)} AND {value} <= {_number(of.upto)}"


def _of_numbers(
    connection: duckdb.DuckDBPyConnection, relation: str, columns: Sequence[ColumnLayout], day: str
) -> Counts:
    cells = ", ".join(_number_cell(column) for column in columns)
    query = f"""
        SELECT counted_day, place, cell, count(*) FROM (
            SELECT {day} AS counted_day, unnest(range({len(columns)})) AS place, unnest([{cells}]) AS cell FROM {relation})
        GROUP BY ALL"""
    for at, place, cell, count in connection.execute(query).fetchall():
        yield columns[place], at, cell, count


def _of_category(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    column: ColumnLayout,
    learnt: Collection[str] | None,
    day: str,
) -> Counts:
    rest = len(column.top)
    codes = dict.fromkeys(learnt or (), rest) | {value: code for code, value in enumerate(column.top)}
    listed = pd.DataFrame({"listed_value": list(codes), "listed_cell": list(codes.values())}).astype(
        {"listed_value": "object", "listed_cell": "int32"}
    )
    connection.register("listed_categories", listed)
    other = rest if learnt is None else column.special("unknown")
    value = f"CAST({quoted(column.feature)} AS VARCHAR)"
    query = f"""
        SELECT counted_day, CASE WHEN category IS NULL THEN {column.special("missing")} ELSE coalesce(listed_cell, {other}) END AS cell,
               sum(counted) FROM (
            SELECT {day} AS counted_day, {value} AS category, count(*) AS counted FROM {relation} GROUP BY ALL)
        LEFT JOIN listed_categories ON category = listed_value GROUP BY ALL"""
    try:
        for at, cell, count in connection.execute(query).fetchall():
            yield column, at, cell, int(count)
    finally:
        connection.unregister("listed_categories")


def _number_cell(column: ColumnLayout) -> str:
    value = f"({' - '.join(f'CAST({quoted(name)} AS DOUBLE)' for name in column.of or (column.feature,))})"
    return (
        f"CASE WHEN {value} IS NULL OR isnan({value}) THEN {column.special('missing')}"
        f" WHEN isinf({value}) THEN CASE WHEN {value} < 0 THEN {column.special('minus_infinity')}"
        f" ELSE {column.special('plus_infinity')} END"
        f" ELSE {_ladder(value, column.edges, 0, len(column.edges))} END"
    )


def _ladder(value: str, edges: tuple[float, ...], low: int, high: int) -> str:
    """The number of a value's bucket, found by halving: so few comparisons a row."""
    if low == high:
        return str(low)
    middle = (low + high) // 2
    edge = _number(edges[middle])
    return f"CASE WHEN {value} <= {edge} THEN {_ladder(value, edges, low, middle)} ELSE {_ladder(value, edges, middle + 1, high)} END"


def _number(value: float) -> str:
    # Without an exponent a number such as 0.1 would be a decimal.
    return text if "e" in (text := repr(value)) else f"{text}e0"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
