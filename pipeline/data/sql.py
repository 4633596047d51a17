"""Small pieces of DuckDB SQL: identifiers, missing values, number types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

NUMBER = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "UHUGEINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "BOOLEAN",
)


def connect(root: Path) -> duckdb.DuckDBPyConnection:
    """A private connection whose relative paths start at `root` and whose times are UTC."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    # It is drawn into logs too, once a query takes two seconds.
    connection.execute("SET enable_progress_bar = false")
    connection.execute(f"SET file_search_path = '{str(root).replace(chr(39), chr(39) * 2)}'")
    return connection


def column_types(connection: duckdb.DuckDBPyConnection, table: str = "rows") -> dict[str, str]:
    """Column name to DuckDB type of a table, or of a SELECT in brackets."""
    return {row[0]: str(row[1]) for row in connection.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()}


def parameters(query: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Of the values by parameter those that the query has: DuckDB refuses others, and a column may be called $end."""
    (statement,) = duckdb.extract_statements(query)
    return {name: value for name, value in values.items() if name in statement.named_parameters}


def is_number(duckdb_type: str) -> bool:
    """Whether a DuckDB type, as DESCRIBE writes it, is cast to DOUBLE without a loss of meaning."""
    return duckdb_type.upper().split("(")[0] in NUMBER


def unlabelled(target: str) -> str:
    """SQL that is true for a row whose label is missing, NULL or NaN; a label may be a text."""
    return f"({quoted(target)} IS NULL OR coalesce(isnan(try_cast({quoted(target)} AS DOUBLE)), FALSE))"


def missing(column: str, number: bool) -> str:
    """SQL that is true for a row without a value in `column`: NULL, or with `number` also NaN."""
    nan = f" OR isnan(CAST({quoted(column)} AS DOUBLE))" if number else ""
    return f"({quoted(column)} IS NULL{nan})"


def quoted(column: str) -> str:
    """`column` as an SQL identifier."""
    return '"' + column.replace('"', '""') + '"'
