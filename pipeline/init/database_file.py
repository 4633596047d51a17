"""A DuckDB database as `--data`: its one table is read; of several the person says which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb

from pipeline.data.sql import quoted
from pipeline.data.text_sql import literal
from pipeline.errors import DataError

NAME = "given_database"
SHOWN = 10


def is_one(file: Path) -> bool:
    """Whether the file is a DuckDB database, by the mark after its first checksum."""
    with file.open("rb") as bytes_of:
        return bytes_of.read(12)[8:] == b"DUCK"


def query_of(path: str, files: Sequence[Path]) -> str:
    """The statements that read the database's only table; `path` is what a block has for the file. Raises DataError."""
    if len(files) > 1:
        raise DataError(
            f"--data {path}", f"names {len(files)} files, and {files[0].name} is a DuckDB database", "name one"
        )
    try:
        with duckdb.connect(str(files[0]), read_only=True) as connection:
            tables = connection.execute(
                "SELECT table_schema, table_name FROM information_schema.tables WHERE table_catalog = current_database() ORDER BY ALL"
            ).fetchall()
    except duckdb.Error as error:
        raise DataError(
            f"--data {path}", " ".join(str(error).split())[:300], "end the program that writes to it, or give a copy"
        ) from error
    queries = [
        f"ATTACH {literal(path)} AS {NAME} (READ_ONLY); SELECT * FROM {NAME}.{quoted(schema)}.{quoted(table)}"
        for schema, table in tables
    ]
    if not queries:
        raise DataError(f"--data {path}", "is a DuckDB database without a table", "name another file")
    if len(queries) > 1:
        names = ", ".join(str(table) for _, table in tables[:SHOWN]) + (", …" if len(tables) > SHOWN else "")
        plain = f"ATTACH {literal(path)} AS d (READ_ONLY); SELECT * FROM d.TABLE"
        raise DataError(
            f"--data {path}", f"is a DuckDB database with {len(tables)} tables: {names}", f'say which: --data "{plain}"'
        )
    return queries[0]
