"""The time columns of a source: which types may be times, and their cells as texts, which one rule reads.

A typed time (DATE, TIMESTAMP with or without a zone, in any precision) is taken as it is. Texts and numbers are read as those of a
request are (see pipeline.serving.schema.times), and what is no time is `unread`, never an error of DuckDB's cast.
"""

from __future__ import annotations

from collections.abc import Mapping

import duckdb

from pipeline.data import neutral_sql, text_sql
from pipeline.data.sql import is_number, quoted
from pipeline.errors import DataError
from pipeline.settings.source import Source


def refuse_other_types(source: Source, types: Mapping[str, str], subject: str) -> None:
    """Raises DataError for a time column whose type is none of a time, or that holds numbers without source.epoch."""
    place = f"cast it in models.{subject}.source.{'query' if source.kind == 'files' else source.kind}"
    for column in source.times:
        found, observed = _base(types[column]), f"column {column} holds {types[column]}, not a time"
        if found == "FLOAT" and source.epoch:
            raise DataError(
                f"{subject} source",
                f"{observed}: its last digits are lost",
                "write it as BIGINT or DOUBLE in the source",
            )
        if is_number(found) and found != "BOOLEAN":
            if source.epoch is None:
                check = f"set models.{subject}.source.epoch to s, ms, us or ns since 1970, or {place}"
                raise DataError(f"{subject} source", observed, check)
        elif not (found in ("VARCHAR", "ENUM", "DATE", "NULL") or found.startswith("TIMESTAMP")):
            raise DataError(f"{subject} source", observed, place)


def as_texts(connection: duckdb.DuckDBPyConnection, source: Source, types: Mapping[str, str]) -> list[str]:
    """Those time columns of the table `rows` that one rule reads, and makes them texts: a number is its digits."""
    texts = [c for c in source.times if _base(types[c]) in ("VARCHAR", "ENUM") or is_number(_base(types[c]))]
    for column in texts:
        if types[column] != "VARCHAR":
            text = neutral_sql.category(column, types[column])
            connection.execute(f"ALTER TABLE rows ALTER {quoted(column)} TYPE VARCHAR USING {text}")
    return texts


def instant(source: Source, column: str, duckdb_type: str) -> str:
    """SQL for the TIMESTAMPTZ of a cell of the relation as it comes from the source; NULL where it is none."""
    if _base(duckdb_type) in ("VARCHAR", "ENUM") or is_number(_base(duckdb_type)):
        return text_sql.time(text_sql.stripped(neutral_sql.category(column, duckdb_type)), source.epoch)
    return f"CAST({quoted(column)} AS TIMESTAMPTZ)"


def _base(duckdb_type: str) -> str:
    """The type without its parameters: VARCHAR of VARCHAR(10); a list is none of these."""
    return "LIST" if duckdb_type.endswith("]") else duckdb_type.upper().split("(")[0].strip('" ')
