"""How the ledger's database is opened: SQLite so that a write survives a power cut and who reads waits for nobody, Postgres by psycopg2."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa


def with_psycopg2(url: str) -> sa.engine.URL:
    """Names psycopg2 in a plain `postgresql://`, which SQLAlchemy reads as psycopg 3: Airflow installs psycopg2."""
    parsed = sa.engine.make_url(url)
    return parsed.set(drivername="postgresql+psycopg2") if parsed.drivername == "postgresql" else parsed


def without_password(url: str) -> str:
    """The address for a message. Of what is none nothing is shown, because a password may stand anywhere in it."""
    try:
        return sa.engine.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "address"


def durable(connection: Any, _record: Any) -> None:
    """For SQLAlchemy's event `connect` of SQLite: what is committed survives a power cut, and readers do not wait for a
    writer."""
    # Keeps sqlite3 from opening transactions itself; `Ledger._locked` begins them with BEGIN IMMEDIATE.
    connection.isolation_level = None
    # A byte that is no UTF-8 makes its own row unreadable, not the whole query.
    connection.text_factory = lambda content: content.decode("utf-8", "surrogateescape")
    for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
