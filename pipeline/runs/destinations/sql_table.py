"""A table of a database that SQLAlchemy knows, and beside it TABLE_refused: one transaction for an interval.

On Postgres the transactions of a table take turns by an advisory lock, on SQLite by the file's own. Columns that a table lacks are
added first, so that a version with further answers needs no one's hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pipeline.runs.destinations.base import REFUSED_TABLE, SCORES, DestinationError, refused_lines
from pipeline.runs.scoring_interval import Interval
from pipeline.settings.models import time_of

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 10_000
WAIT_S = 120
DRIVERS = {"postgres": "postgresql+psycopg2", "postgresql": "postgresql+psycopg2"}
KEY_COLUMNS = ("model", "interval_start", "interval_end")


class SqlTable:
    """Raises DestinationError for an address or driver that cannot be used; it never shows the address, which may hold
    a password."""

    def __init__(self, url: str, table: str, model: str, parts: Path, key: str) -> None:
        self._table, self._model, self._parts, self._key = table, model, parts, key
        try:
            address = sa.make_url(url)
            address = address.set(drivername=DRIVERS.get(address.drivername, address.drivername))
            wait = {"timeout": WAIT_S} if address.drivername.startswith("sqlite") else {}
            self._engine = sa.create_engine(address, poolclass=sa.pool.NullPool, connect_args=wait)
        except (sa.exc.SQLAlchemyError, ImportError, ValueError) as error:
            # Not the error's text: it may have the URL.
            if isinstance(error, ImportError):
                kind = url.partition(":")[0]
                next_step = f"install SQLAlchemy's driver for {kind} where scoring runs, or name one that is there, as {kind}+DRIVER://"
                raise DestinationError(key, str(error), next_step) from None
            raise self._failed("is no URL of a database") from None

    def folder(self, interval: Interval) -> Path:
        return self._parts / interval.name

    def replace(self, interval: Interval, files: Path) -> None:
        import pyarrow.parquet as pq

        file = pq.ParquetFile(files / SCORES)
        scores = {name: _type_of(file.schema_arrow.field(name).type) for name in file.schema_arrow.names}
        refused = {
            "interval_start": sa.DateTime(timezone=True),
            "interval_end": sa.DateTime(timezone=True),
            "row": sa.BigInteger(),
            "reason": sa.Text(),
            "version": sa.Text(),
            "cells": sa.Text(),
        }
        try:
            with self._engine.begin() as connection:
                self._take_turns(connection)
                # All that defines tables comes first: some databases end a transaction with it.
                tables = [
                    self._table_of(connection, name, columns)
                    for name, columns in ((self._table, scores), (self._table + REFUSED_TABLE, refused))
                ]
                for table, rows in zip(tables, (_scores_of(file), _refused_of(files)), strict=True):
                    self._replace(connection, table, interval, rows)
        except (sa.exc.SQLAlchemyError, ValueError) as error:
            # A ValueError is psycopg2's, of a text with a NUL.
            raise self._failed(" ".join(str(getattr(error, "orig", None) or error).split())[:300]) from error
        finally:
            file.close()

    def _take_turns(self, connection: sa.Connection) -> None:
        if self._engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": self._table})

    def _table_of(self, connection: sa.Connection, name: str, columns: Mapping[str, Any]) -> sa.Table:
        schema, _, plain = name.rpartition(".")
        every = {"model": sa.String(40), **columns}
        longest = self._engine.dialect.max_identifier_length
        if long := [column for column in every if len(column.encode()) > longest]:
            # Postgres would cut it, and the next run would not find it.
            raise DestinationError(
                self._key,
                f"column {long[0]} has a name of {len(long[0].encode())} bytes, and this database takes {longest}",
                "write to scoring.destination.parquet or .duckdb, or give the label a shorter name",
            )
        table = sa.Table(
            plain,
            sa.MetaData(schema=schema or None),
            *(sa.Column(column, kind) for column, kind in every.items()),
            sa.Index(f"{plain}_interval", "model", "interval_start"),
        )
        there = sa.inspect(connection)
        if not there.has_table(plain, schema or None):
            table.create(connection)
            return table
        has = {column["name"] for column in there.get_columns(plain, schema or None)}
        if not set(KEY_COLUMNS) <= has:
            raise self._failed(f"table {name} is another program's: it has no columns {', '.join(KEY_COLUMNS)}")
        quote = self._engine.dialect.identifier_preparer
        for column in table.columns:
            if column.name not in has:
                kind = column.type.compile(self._engine.dialect)
                added = f"ALTER TABLE {quote.format_table(table)} ADD COLUMN {quote.format_column(column)} {kind}"
                connection.execute(sa.text(added))
        return table

    def _replace(
        self, connection: sa.Connection, table: sa.Table, interval: Interval, rows: Iterator[dict[str, Any]]
    ) -> None:
        key = (
            (table.c.model == self._model)
            & (table.c.interval_start == interval.start)
            & (table.c.interval_end == interval.end)
        )
        connection.execute(table.delete().where(key))
        while some := list(islice(rows, ROWS)):
            connection.execute(table.insert(), [{"model": self._model, **row} for row in some])

    def _failed(self, observed: str) -> DestinationError:
        return DestinationError(self._key, observed, "check the database, its address and its rights")


def _scores_of(file: Any) -> Iterator[dict[str, Any]]:
    for batch in file.iter_batches(ROWS):
        yield from batch.to_pylist()


def _refused_of(files: Path) -> Iterator[dict[str, Any]]:
    for line in refused_lines(files):
        yield {**line, **{name: time_of(line[name]) for name in ("interval_start", "interval_end")}}


def _type_of(kind: pa.DataType) -> sa.types.TypeEngine[Any]:
    import pyarrow as pa

    types = pa.types
    if types.is_boolean(kind):
        return sa.Boolean()
    if types.is_integer(kind):
        return sa.BigInteger()
    if types.is_floating(kind):
        return sa.Float(53)
    if types.is_decimal(kind):
        return sa.Numeric(kind.precision, kind.scale)
    if types.is_timestamp(kind):
        return sa.DateTime(timezone=kind.tz is not None)
    return sa.Date() if types.is_date(kind) else sa.Text()
