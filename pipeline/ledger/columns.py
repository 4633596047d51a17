"""Numbers inside the bodies as columns of SQL, on SQLite and Postgres: sums over a long ledger without reading its rows one by one."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pipeline.ledger.store import EVENTS, Ledger

# The whole numbers that metered usage is added up in, of a second, a MiB second and a joule: the meter rounds no finer.
CPU_PARTS, MEMORY_PARTS, ENERGY_PARTS = 1_000_000, 10_000, 1_000
# 2026-03 of a time in ISO 8601.
MONTH = sa.func.substr(EVENTS.c.at, 1, 7)


def number(ledger: Ledger, *path: str) -> Any:
    """The number at that path in the body; NULL where the body has none."""
    if ledger.dialect == "sqlite":
        return sa.func.json_extract(EVENTS.c.body, _path(path), type_=sa.Float)
    return sa.cast(text(ledger, *path), sa.Float)


def text(ledger: Ledger, *path: str) -> Any:
    """The text at that path in the body; NULL where the body has none."""
    if ledger.dialect == "sqlite":
        return sa.func.json_extract(EVENTS.c.body, _path(path), type_=sa.String)
    return sa.func.json_extract_path_text(sa.cast(EVENTS.c.body, sa.JSON), *path, type_=sa.String)


def holds(ledger: Ledger, text: str) -> Any:
    """Whether the body's JSON, as it is written, has that text in it: of years of events it tells without reading them as JSON."""
    find = sa.func.instr if ledger.dialect == "sqlite" else sa.func.strpos
    return find(EVENTS.c.body, text) > 0


def usage(ledger: Ledger) -> list[Any]:
    """Sums over steps that ended: attempts, processor time and memory times time, of all and of those that failed; and energy. In whole
    CPU_PARTS, MEMORY_PARTS and ENERGY_PARTS, so that sums of sums are the same."""
    failed = text(ledger, "state") == "failed"
    measures: dict[str, Any] = {
        "attempts": sa.literal_column("1"),
        "cpu": _whole(number(ledger, "cpu_s") * CPU_PARTS),
        "memory": _whole(number(ledger, "peak_mb") * number(ledger, "wall_s") * MEMORY_PARTS),
    }
    # To sort by the state as well takes longer than to add up twice.
    return [
        *(sa.func.sum(of).label(name) for name, of in measures.items()),
        *(sa.func.sum(sa.case((failed, of), else_=0)).label(f"failed_{name}") for name, of in measures.items()),
        sa.func.sum(_whole(number(ledger, "energy_j") * ENERGY_PARTS)).label("energy"),
    ]


def _whole(value: Any) -> Any:
    return sa.cast(sa.func.round(value), sa.BigInteger)


def _path(path: tuple[str, ...]) -> Any:
    # In the statement itself: SQLite groups by an expression only where it sees that it is the same.
    return sa.literal_column("'$." + ".".join(path) + "'")
