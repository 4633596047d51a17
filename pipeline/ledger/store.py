"""The ledger's table: append, read, verify.

The order of events is that of their numbers; a clock that was set back changes no order. The rows are a chain of hashes
(chain.py). The database is SQLite (WAL, synchronous FULL) by default, Postgres with $PERENNIAL_LEDGER_URL.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from pipeline.errors import LedgerError

# All kinds of events register with it.
from pipeline.ledger import chain, every_event  # noqa: F401
from pipeline.ledger.appending import add_rows
from pipeline.ledger.chain import ChainCheck, ClockStep, Head, canonical, chained
from pipeline.ledger.connections import durable, with_psycopg2, without_password
from pipeline.ledger.events import KINDS, Event, MissingField, UnknownEvent
from pipeline.ledger.json_text import read_json

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

# What an Entry is made of, in its order.
OF_ENTRY = tuple(EVENTS.c[name] for name in ("seq", "at", "model", "run", "step", "kind", "body", "hash"))

# The newest event of a kind of each model is found by it alone, however long the ledger is.
BY_KIND = sa.Index("ix_events_kind_model_seq", EVENTS.c.kind, EVENTS.c.model, EVENTS.c.seq)

# From one name to the next by the index: DISTINCT would read all of it.
MODELS = """WITH RECURSIVE names(model) AS (
    SELECT min(model) FROM events
    UNION ALL SELECT (SELECT min(model) FROM events WHERE model > names.model) FROM names WHERE names.model IS NOT NULL
) SELECT model FROM names"""
# What a database that is away, torn or no database at all raises; SQLAlchemy passes some of it on unwrapped.
FAILURES = (sa.exc.SQLAlchemyError, sqlite3.Error, OSError, UnicodeError)
VERIFY = "run `perennial verify` to check the ledger"

E = TypeVar("E", bound=Event)
E_co = TypeVar("E_co", bound=Event, covariant=True)


@dataclass(frozen=True)
class Entry(Generic[E_co]):
    """One row: an event, when it happened (UTC, ISO 8601), and to which model, run and step. `text` is its body's JSON.

    The text is read at its first use, so that one broken row stops only those who need that very event.
    """

    seq: int
    at: str
    model: str
    run: str
    step: str
    kind: str
    text: str
    hash: str

    @property
    def head(self) -> Head:
        """The chain's head when this was its last row."""
        return Head(self.seq, self.hash)

    @cached_property
    def body(self) -> dict[str, Any]:
        """The body as it was written. Raises LedgerError when it is no JSON object."""
        try:
            body = read_json(self.text)
        except (ValueError, TypeError) as error:
            raise LedgerError(f"event {self.seq}", f"its body is no JSON ({error})", VERIFY) from error
        if not isinstance(body, dict):
            raise LedgerError(f"event {self.seq}", "its body is no JSON object", VERIFY)
        return body

    @cached_property
    def event(self) -> E_co:
        """The event with its fields. Raises LedgerError when the body cannot be read or lacks a required field."""
        kind = KINDS.get(self.kind)
        if kind is None:
            return UnknownEvent(values=self.body)  # type: ignore[return-value]
        try:
            return kind.read(self.body)  # type: ignore[return-value]
        except MissingField as error:
            observed = f"the body of this {self.kind} has no {error}"
            raise LedgerError(f"event {self.seq}", observed, VERIFY) from error


@dataclass(frozen=True)
class _Batch:
    """Models that are asked about together, and what was read of them: by kinds and count, then by model."""

    models: frozenset[str]
    read: dict[tuple[tuple[str, ...], int], dict[str, list[Entry[Any]]]]


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
        self._shared = threading.local()
        try:
            if url.startswith("sqlite:///"):
                Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
            self._engine = sa.create_engine(with_psycopg2(url), poolclass=sa.pool.NullPool)
            if self._engine.dialect.name == "sqlite":
                sa.event.listen(self._engine, "connect", durable)
            # Who may only read opens it too, and nobody waits for a writer.
            if not self._is_made():
                with self._locked() as connection:
                    EVENTS.create(connection, checkfirst=True)
                    # A ledger of before has its table without it.
                    connection.execute(sa.schema.CreateIndex(BY_KIND, if_not_exists=True))
        except (*FAILURES, ImportError) as error:
            raise self._failed(error) from error

    def _is_made(self) -> bool:
        """Whether the table is there, with the index that older ones lack."""
        with self._engine.connect() as connection:
            inspector = sa.inspect(connection)
            return inspector.has_table(EVENTS.name) and BY_KIND.name in {
                index["name"] for index in inspector.get_indexes(EVENTS.name)
            }

    def append(self, event: E, model: str = "", run: str = "", step: str = "", *, at: str = "") -> Entry[E]:
        """Adds `event` at the end of the chain and returns its entry; `at` defaults to now. Raises LedgerError."""
        return self.append_all([event], model, run, step, at=at)[0]

    def append_all(
        self, events: Sequence[E], model: str = "", run: str = "", step: str = "", *, at: str = ""
    ) -> list[Entry[E]]:
        """Adds the events in their order, all of them or none, in one write. Raises LedgerError."""
        written = [{"kind": event.KIND, "body": chain.writable(canonical(event.body()))} for event in events]
        rows: list[dict[str, Any]] = []

        def rows_after(seq: int, previous: str) -> list[dict[str, Any]]:
            of = {"run": run, "model": model, "step": step}
            rows.extend(chained([{**of, "at": at or now(), **each} for each in written], seq, previous))
            return rows

        with self._reported():
            if self.dialect == "sqlite" and written:
                add_rows(self._engine, rows_after, chain.GENESIS)
            elif written:
                with self._locked() as connection:
                    last = connection.execute(_by_number(EVENTS.c.seq, EVENTS.c.hash).limit(1)).first()
                    connection.execute(EVENTS.insert(), rows_after(*(last or (0, chain.GENESIS))))
        return [Entry(r["seq"], r["at"], model, run, step, r["kind"], r["body"], r["hash"]) for r in rows]

    def events(
        self, *kinds: type[E], model: str = "", run: str = "", until: str = "", after: int = 0, since: str = ""
    ) -> list[Entry[E]]:
        """The entries that match, in the order of their numbers. No `kinds` means all; only those after number `after`, and only
        those whose own time is not before `since`.

        `until` (inclusive) ends at the first event of a later time: what a clock that was set back stamped after that event
        happened after it. In a block of `reading(models)` those of all its models are read at the first question, as by `last`. Raises
        LedgerError.
        """
        if kinds and not (run or until or after or since) and (batched := self._batched(kinds, model, 0)) is not None:
            return batched
        # By the index of runs: SQLite would take that of kinds or models.
        kind_of, model_of = (each.concat("") if run else each for each in (EVENTS.c.kind, EVENTS.c.model))
        query = sa.select(*OF_ENTRY).where(EVENTS.c.seq > after)
        # For this order SQLite would read all that a model has, and it carries every body along where it sorts.
        query = query.order_by(EVENTS.c.seq) if run or not kinds else query
        if kinds:
            query = query.where(kind_of.in_([kind.KIND for kind in kinds]))
        if since:
            query = query.where(EVENTS.c.at >= since)
        for column, value in ((model_of, model), (EVENTS.c.run, run)):
            if value:
                query = query.where(column == value)
        with self._reported(), self._connected() as connection:
            if until:
                later = sa.select(EVENTS.c.seq).where(EVENTS.c.at > until).order_by(EVENTS.c.seq).limit(1)
                first = connection.execute(later).scalar()
                query = query.where(EVENTS.c.seq < first) if first is not None else query
            return _in_order(connection.execute(query).all())

    def newest(self, *kinds: type[E], models: Collection[str] | None = None, count: int = 1) -> list[Entry[E]]:
        """Of each of the `models` (None: of all) its last `count` events of these kinds, in the order of their numbers."""
        if models is not None and len(models) == 1:
            return self._last_of(kinds, next(iter(models)), count)
        # By the index of kinds: SQLite would take that of models, and read all that a model has.
        of_models = sa.true() if models is None else EVENTS.c.model.concat("").in_(list(models))
        of_kinds = sa.and_(EVENTS.c.kind.in_([kind.KIND for kind in kinds]), of_models)
        wanted = sa.select(sa.func.max(EVENTS.c.seq)).where(of_kinds).group_by(EVENTS.c.model)
        if count > 1:
            place = sa.func.row_number().over(partition_by=EVENTS.c.model, order_by=EVENTS.c.seq.desc())
            placed = sa.select(EVENTS.c.seq, place.label("place")).where(of_kinds).subquery()
            wanted = sa.select(placed.c.seq).where(placed.c.place <= count)
        return self._matching(EVENTS.c.seq.in_(wanted))

    def latest(self, *kinds: type[E], count: int, model: str = "") -> list[Entry[E]]:
        """The last `count` events of these kinds, of the model or of all together, in the order of their numbers."""
        query = sa.select(*OF_ENTRY).where(EVENTS.c.kind.in_([kind.KIND for kind in kinds]))
        query = query.where(EVENTS.c.model == model) if model else query
        return _in_order(self.rows(query.order_by(EVENTS.c.seq.desc()).limit(count)))

    def last(self, *kinds: type[E], model: str, count: int = 1) -> list[Entry[E]]:
        """The model's last `count` events of these kinds, in the order of their numbers.

        In a block of `reading(models)` those of all its models are read at the first question, in one query.
        """
        batched = self._batched(kinds, model, count)
        return self._last_of(kinds, model, count) if batched is None else batched

    def _batched(self, kinds: Sequence[type[E]], model: str, count: int) -> list[Entry[E]] | None:
        """The model's last `count` events, or all for 0, from what was read of all models of a block; None outside of one."""
        batch: _Batch | None = getattr(self._shared, "batch", None)
        # The last ones of one model alone are found by the index.
        if batch is None or model not in batch.models or (count and batch.models == {model}):
            return None
        asked = (tuple(kind.KIND for kind in kinds), count)
        if asked not in batch.read:
            of_kinds = sa.and_(EVENTS.c.kind.in_(asked[0]), EVENTS.c.model.in_(list(batch.models)))
            found = self.newest(*kinds, models=batch.models, count=count) if count else self._matching(of_kinds)
            of_model: dict[str, list[Entry[Any]]] = {}
            for entry in found:
                of_model.setdefault(entry.model, []).append(entry)
            batch.read[asked] = of_model
        return batch.read[asked].get(model, [])

    def _matching(self, condition: sa.ColumnElement[bool]) -> list[Entry[Any]]:
        return _in_order(self.rows(sa.select(*OF_ENTRY).where(condition)))

    def _last_of(self, kinds: Sequence[type[E]], model: str, count: int) -> list[Entry[E]]:
        """By the index alone: of each kind its last ones, and of those the last."""
        of_kind = [
            sa.select(EVENTS.c.seq)
            .where(EVENTS.c.kind == kind.KIND, EVENTS.c.model == model)
            .order_by(EVENTS.c.seq.desc())
            .limit(count)
            .subquery()
            for kind in kinds
        ]
        wanted = sa.union_all(*(sa.select(each.c.seq) for each in of_kind))
        query = sa.select(*OF_ENTRY).where(EVENTS.c.seq.in_(wanted)).order_by(EVENTS.c.seq.desc()).limit(count)
        return _in_order(self.rows(query))

    @contextmanager
    def reading(self, models: Collection[str] = ()) -> Iterator[None]:
        """In the block this thread's reads share a connection, for opening one each is most of their time. What `last` reads of `models`
        is what there was at its first question. A block within a block shares its connection."""
        before = getattr(self._shared, "connection", None), getattr(self._shared, "batch", None)
        with self._reported(), self._connected() as connection:
            self._shared.connection, self._shared.batch = connection, _Batch(frozenset(models), {})
            try:
                yield
            finally:
                self._shared.connection, self._shared.batch = before

    @contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        shared = getattr(self._shared, "connection", None)
        if shared is not None:
            yield shared
            return
        with self._engine.connect() as connection:
            yield connection

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    def rows(self, query: sa.Select[Any]) -> list[Any]:
        """The rows of a query on EVENTS: counts and sums over many events. Raises LedgerError."""
        with self._reported(), self._connected() as connection:
            return list(connection.execute(query).all())

    def head(self) -> Head | None:
        """The newest row's number and hash; None for an empty ledger. Raises LedgerError."""
        with self._reported(), self._connected() as connection:
            last = connection.execute(_by_number(EVENTS.c.seq, EVENTS.c.hash).limit(1)).first()
            return Head(last.seq, last.hash) if last else None

    def has(self, table: sa.Table) -> bool:
        """Whether the database has that table beside the events. Raises LedgerError."""
        with self._reported(), self._connected() as connection:
            return sa.inspect(connection).has_table(table.name)

    def number_at(self, at: str) -> int:
        """The number of the newest event that is not later than `at` (UTC, ISO 8601); 0 for none."""
        query = sa.select(sa.func.max(EVENTS.c.seq)).where(EVENTS.c.at <= at)
        with self._reported(), self._connected() as connection:
            return connection.execute(query).scalar() or 0

    def models(self) -> set[str]:
        """The names of the models that have an event."""
        with self._reported(), self._engine.connect() as connection:
            return set(connection.execute(sa.text(MODELS)).scalars()) - {"", None}

    def check_chain(self, wanted: Collection[int] = ()) -> ChainCheck:
        """Reads every row and computes its hash anew; returns also the hashes of the rows with the numbers `wanted`."""
        with self._reported(), self._engine.connect().execution_options(yield_per=1000) as connection:
            rows = connection.execute(sa.select(EVENTS).order_by(EVENTS.c.seq))
            return chain.check((row._asdict() for row in rows), wanted)

    def verify(self) -> tuple[int, int | None]:
        """(rows read up to and with the first broken one, its seq or None)."""
        return (checked := self.check_chain()).events, checked.broken

    def clock_steps(self, after: int = 0, upto: int | None = None) -> list[ClockStep]:
        """The events with a number above `after`, and at most `upto`, whose time is more than a second before that of an earlier event."""
        earlier = sa.func.max(EVENTS.c.at).over(order_by=EVENTS.c.seq, rows=(None, -1)).label("earlier")
        asked = sa.and_(EVENTS.c.seq > after, EVENTS.c.seq <= upto if upto is not None else sa.true())
        timed = sa.select(EVENTS.c.seq, EVENTS.c.at, earlier).where(asked).subquery()
        with self._reported(), self._connected() as connection:
            before: str | None = ""
            if after:
                before = connection.execute(sa.select(sa.func.max(EVENTS.c.at)).where(EVENTS.c.seq <= after)).scalar()
            is_before = sa.or_(timed.c.at < timed.c.earlier, timed.c.at < (before or ""))
            rows = connection.execute(sa.select(timed).where(is_before).order_by(timed.c.seq)).all()
        steps = [ClockStep(r.seq, r.at, max(r.earlier or "", before or "")) for r in rows]
        return [step for step in steps if step.is_set_back]

    @contextmanager
    def writing(self, wait: bool = True) -> Iterator[sa.Connection]:
        """A transaction for tables beside the events, such as leases; one writer at a time, for whom it may `wait`. Raises LedgerError."""
        with self._reported(), self._locked(wait) as connection:
            yield connection

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Turns a failure of the database into LedgerError, one line."""
        try:
            yield
        except FAILURES as error:
            raise self._failed(error) from error

    @contextmanager
    def _locked(self, wait: bool = True) -> Iterator[sa.Connection]:
        """A transaction with one writer at a time, so that no two rows follow the same row."""
        with self._engine.connect() as connection:
            if self._engine.dialect.name == "sqlite":
                if not wait:
                    connection.exec_driver_sql("PRAGMA busy_timeout=0")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            elif wait:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(POSTGRES_LOCK)))
            elif not connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(POSTGRES_LOCK))):
                raise self._failed(OSError("another one writes"))
            yield connection
            connection.commit()

    def _failed(self, error: Exception) -> LedgerError:
        shown = without_password(self.url)
        observed = (str(error) or type(error).__name__).splitlines()[0]
        if "malformed JSON" in observed or "type json" in observed:
            return LedgerError(f"ledger {shown}", f"the body of an event is no JSON ({observed})", VERIFY)
        torn = "malformed" in observed or "not a database" in observed
        remedy = "restore the file from a backup" if torn else "check $PERENNIAL_LEDGER_URL and the disk"
        return LedgerError(f"ledger {shown}", observed, remedy)


def _in_order(rows: Iterable[Any]) -> list[Entry[Any]]:
    """The entries of rows of OF_ENTRY, by their numbers."""
    return [Entry(*row) for row in sorted(rows, key=itemgetter(0))]


def _by_number(*columns: Any) -> Any:
    """A query for the newest row first."""
    return sa.select(*columns).order_by(EVENTS.c.seq.desc())
