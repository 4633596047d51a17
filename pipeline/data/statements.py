"""A query of several statements: those before the last one, such as ATTACH or LOAD, are run, and the last one is the query.

A database is read by `ATTACH 'warehouse.duckdb' AS w (READ_ONLY); SELECT * FROM w.orders WHERE …`. A run asks its source several times on
one connection, so ATTACH is always IF NOT EXISTS.
"""

from __future__ import annotations

import re
from contextlib import chdir
from pathlib import Path

import duckdb

from pipeline.errors import DataError

_ATTACH = re.compile(r"^(\s*ATTACH\s+(?:DATABASE\s+)?)(?!IF\b|OR\b|DATABASE\b)", re.IGNORECASE)
# What a query may do before it reads: none of these changes data, and each may be done again. INSTALL is a LOAD, USE is a SET.
_BEFORE = ("ATTACH", "LOAD", "SET")


def split(query: str, key: str) -> tuple[str, str]:
    """(the statements before the last one, the last one without its semicolon) of a `query`, the settings key or flag `key`.

    One statement, and what DuckDB cannot parse, is given back as it is written: who runs it says what is wrong. Raises DataError.
    """
    written = query.strip().rstrip(";")
    try:
        statements = duckdb.extract_statements(written) if ";" in written else []
    except duckdb.Error:
        statements = []
    if len(statements) < 2:
        return "", written
    *before, last = statements
    for each in before:
        if each.type.name not in _BEFORE:
            raise DataError(
                key,
                f"has {each.type.name} before its last statement",
                f"only {', '.join(_BEFORE)} may stand there; the last one gives the rows",
            )
    texts = [_ATTACH.sub(r"\1IF NOT EXISTS ", each.query.strip().rstrip(";")) for each in before]
    return ";\n".join(texts), last.query.strip().rstrip(";")


def prepared(connection: duckdb.DuckDBPyConnection, query: str, key: str, folder: Path) -> str:
    """Runs what stands before the last statement of `query`, its relative paths from `folder`, and returns the last one. Raises DataError
    and duckdb.Error."""
    before, last = split(query, key)
    if before:
        # ATTACH does not look at file_search_path.
        with chdir(folder):
            connection.execute(before)
    return last
