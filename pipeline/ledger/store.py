"""The ledger's table: append, read, verify.

Each row carries the hash of the row before it, so that a changed, removed or inserted row breaks the chain from there on:
hash = sha256(previous hash + canonical JSON of the row's own fields). The database is SQLite (WAL, synchronous FULL) by
default, Postgres with $PERENNIAL_LEDGER_URL.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from pipeline.errors import LedgerError
from pipeline.ledger import rollout_events  # noqa: F401, registers its kinds
from pipeline.ledger.events import KINDS, Event, MissingField, UnknownEvent

GENESIS = "0" * 64
# Key of the advisory lock that writers on Postgres take in turn; any fixed number would do.
POSTGRES_LOCK = 7_305_377_461

EVENTS = sa.Table(
    "events",
    sa.MetaData(),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("run", sa.String(300), nullable=False, index=True),
    sa.Column("model", sa.String(40), nullable=False, index=True),
    sa.Column("kind", sa.String(40), nullable=False, index=True),
    sa.Column("step", sa.String(250), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)


E = TypeVar("E", bound=Event)
E_co = TypeVar("E_co", bound=Event, covariant=True)


@dataclass(frozen=True)
class Entry(Generic[E_co]):
    """One row: an event, when it happened (UTC, ISO 8601), and to which model, run and step. `body` is as it was written."""

    seq: int
    at: str
    model: str
    run: str
    step: str
    kind: str
    body: dict[str, Any]
    hash: str

    @cached_property
    def event(self) -> E_co:
        """The event with its fields. Raises LedgerError when the body lacks a required field."""
        kind = KINDS.get(self.kind)
        if kind is None:
            return UnknownEvent(values=self.body)  # type: ignore[return-value]
        try:
            return kind.read(self.body)  # type: ignore[return-value]
        except MissingField as error:
            observed = f"the body of this {self.kind} has no {error}"
            raise LedgerError(
                f"event {self.seq}", observed, "run `python -m pipeline verify` to check the ledger"
            ) from error


def now() -> str:
    """The present time in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def airflow_run(dag_id: str, run_id: str) -> str:
    """The ledger's name for a run that Airflow started."""
    return f"{dag_id}/{run_id}"


class Ledger:
    """Opens the ledger at the SQLAlchemy `url` and creates its table when that does not exist. Raises LedgerError."""

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            if url.startswith("sqlite:///"):
                Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
            self._engine = sa.create_engine(_with_psycopg2(url), poolclass=sa.pool.NullPool)
            if self._engine.dialect.name == "sqlite":
                sa.event.listen(self._engine, "connect", _durable)
            with self._locked() as connection:
                EVENTS.create(connection, checkfirst=True)
        except (sa.exc.SQLAlchemyError, OSError, ImportError) as error:
            raise self._failed(error) from error

    def append(self, event: E, model: str = "", run: str = "", step: str = "", *, at: str = "") -> Entry[E]:
        """Adds `event` at the end of the chain and returns its entry; `at` defaults to now. Raises LedgerError."""
        body = event.body()
        try:
            with self._locked() as connection:
                last = connection.execute(
                    sa.select(EVENTS.c.seq, EVENTS.c.hash).order_by(EVENTS.c.seq.desc()).limit(1)
                ).first()
                seq, previous = (last.seq + 1, last.hash) if last else (1, GENESIS)
                row = {
                    "seq": seq,
                    "at": at or now(),
                    "run": run,
                    "model": model,
                    "kind": event.KIND,
                    "step": step,
                    "body": canonical(body),
                }
                chained = {**row, "previous": previous, "hash": chain_hash(previous, row)}
                connection.execute(EVENTS.insert().values(**chained))
        except (sa.exc.SQLAlchemyError, OSError) as error:
            raise self._failed(error) from error
        return Entry(seq, str(row["at"]), model, run, step, event.KIND, body, str(chained["hash"]))

    def events(
        self, *kinds: type[E], model: str = "", run: str = "", until: str = "", after: int = 0
    ) -> list[Entry[E]]:
        """The entries that match, oldest first. No `kinds` means all; `until` is inclusive; only those after number `after`.
        Raises LedgerError."""
        query = sa.select(EVENTS).where(EVENTS.c.seq > after).order_by(EVENTS.c.seq)
        if kinds:
            query = query.where(EVENTS.c.kind.in_([kind.KIND for kind in kinds]))
        for column, value in ((EVENTS.c.model, model), (EVENTS.c.run, run)):
            if value:
                query = query.where(column == value)
        if until:
            query = query.where(EVENTS.c.at <= until)
        try:
            with self._engine.connect() as connection:
                rows = connection.execute(query).all()
        except sa.exc.SQLAlchemyError as error:
            raise self._failed(error) from error
        return [Entry(r.seq, r.at, r.model, r.run, r.step, r.kind, json.loads(r.body), r.hash) for r in rows]

    def verify(self) -> tuple[int, int | None]:
        """(rows read up to and with the first broken one, its seq or None)."""
        previous, count = GENESIS, 0
        with self._engine.connect() as connection:
            for r in connection.execute(sa.select(EVENTS).order_by(EVENTS.c.seq)):
                count += 1
                row = {
                    "seq": r.seq,
                    "at": r.at,
                    "run": r.run,
                    "model": r.model,
                    "kind": r.kind,
                    "step": r.step,
                    "body": r.body,
                }
                if r.seq != count or r.previous != previous or r.hash != chain_hash(previous, row):
                    return count, r.seq
                previous = r.hash
        return count, None

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction for tables beside the events, such as leases; one writer at a time. Raises LedgerError."""
        try:
            with self._locked() as connection:
                yield connection
        except (sa.exc.SQLAlchemyError, OSError) as error:
            raise self._failed(error) from error

    @contextmanager
    def _locked(self) -> Iterator[sa.Connection]:
        """A transaction with one writer at a time, so that no two rows follow the same row."""
        with self._engine.connect() as connection:
            if self._engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(POSTGRES_LOCK)))
            yield connection
            connection.commit()

    def _failed(self, error: Exception) -> LedgerError:
        shown = sa.engine.make_url(self.url).render_as_string(hide_password=True)
        return LedgerError(f"ledger {shown}", str(error).splitlines()[0], "check $PERENNIAL_LEDGER_URL and the disk")


def _with_psycopg2(url: str) -> sa.engine.URL:
    """Names psycopg2 in a plain `postgresql://`, which SQLAlchemy reads as psycopg 3: Airflow installs psycopg2."""
    parsed = sa.engine.make_url(url)
    return parsed.set(drivername="postgresql+psycopg2") if parsed.drivername == "postgresql" else parsed


def _durable(connection: Any, _record: Any) -> None:
    # Keeps sqlite3 from opening transactions itself; `_locked` begins them with BEGIN IMMEDIATE.
    connection.isolation_level = None
    for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


def canonical(value: Any) -> str:
    """JSON that is the same for equal values: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def chain_hash(previous: str, row: dict[str, Any]) -> str:
    return hashlib.sha256((previous + canonical(row)).encode()).hexdigest()
