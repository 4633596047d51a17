"""Roll-ups: what accounts read of a long ledger, kept beside it, so that only the events since are read.

A piece of a roll-up is what its part (`rollup_parts.py`) makes of the events after one number up to another, with the hash that the chain
has at that number. Events are only ever added, so a piece stays right; its hash covers every event before it, so a ledger that was cut,
replaced or restored no longer has it there, and the piece is made anew. A piece of another FORMAT is not read. Pieces hold quantities and
events' own fields, never money: prices may change. A content has its digest before it, over the piece's place in the chain too: what was changed
since, or torn, is made anew. (Who means to deceive can write a digest as well; `verify` compares nothing with pieces, it removes them.) Who may not write reads the events in place of the piece, as everybody does without one.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from pipeline.errors import LedgerError
from pipeline.ledger.rollup_parts import PARTS
from pipeline.ledger.store import EVENTS, Ledger

# Raise it whenever a part makes something else of the same events.
FORMAT = 5
# So many events are read anew by each reader before they are kept as a piece.
KEPT_AFTER = 5_000

ROLLUPS = sa.Table(
    "rollups",
    sa.MetaData(),
    sa.Column("part", sa.String(40), primary_key=True),
    sa.Column("format", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("after", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("upto", sa.Integer, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Column("content", sa.Text, nullable=False),
)

Rows = list[list[Any]]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Piece:
    """What `part` makes of the events after number `after` up to `upto`, whose hash is `hash`."""

    part: str
    after: int
    upto: int
    hash: str


# The newest pieces by ledger and part, decoded: the API server asks for them at each request.
_DECODED: dict[tuple[str, str], dict[Piece, Rows]] = {}


def rolled_up(ledger: Ledger, *parts: str, model: str = "") -> dict[str, Rows]:
    """The rows of each of the parts, of all events up to now, piece after piece; of one model or of all (''). Raises LedgerError.

    The rows are shared: whoever changes one changes it for all.
    """
    if not model:
        return _of_all(ledger, parts)
    try:
        return {part: [row for row in rows if row[0] == model] for part, rows in _of_all(ledger, parts).items()}
    except LedgerError:
        # An event that cannot be read is the trouble of its own model.
        head = ledger.head()
        return {part: PARTS[part](ledger, 0, head.seq, model) if head else [] for part in parts}


def _of_all(ledger: Ledger, parts: Sequence[str]) -> dict[str, Rows]:
    head, kept = ledger.head(), _pieces(ledger)
    if head is None:
        return {part: [] for part in parts}
    begins = {part: of[-1].upto if of else 0 for part, of in kept.items()}
    is_long = head.seq - min(begins[part] for part in parts) > KEPT_AFTER
    # The events that all parts come from are read once, so that the next reader finds them whatever it asks for.
    made = {
        Piece(part, begins[part], head.seq, head.hash): PARTS[part](ledger, begins[part], head.seq, "")
        for part in (PARTS if is_long else parts)
        if begins[part] < head.seq
    }
    if is_long:
        _keep(ledger, made)
    tails = {piece.part: rows for piece, rows in made.items()}
    return {part: [*_decoded(ledger, kept[part]), *tails.get(part, [])] for part in parts}


def forget(ledger: Ledger) -> None:
    """Removes every piece: what the chain says of them is not to be believed, or nobody knows who wrote them. Raises LedgerError."""
    if ledger.has(ROLLUPS):
        with ledger.writing() as connection:
            connection.execute(ROLLUPS.delete())


def _pieces(ledger: Ledger) -> dict[str, list[Piece]]:
    """Of each part the pieces that follow each other from the first event on, as far as the chain has their hashes."""
    found: dict[str, list[Piece]] = {part: [] for part in PARTS}
    if not _may_be_read(ledger):
        return found
    table = ROLLUPS.c
    query = (
        sa.select(table.part, table.after, table.upto, table.hash)
        .join(EVENTS, sa.and_(EVENTS.c.seq == table.upto, EVENTS.c.hash == table.hash))
        .where(table.format == FORMAT, table.part.in_(list(PARTS)))
        .order_by(table.part, table.after)
    )
    for row in ledger.rows(query):
        of = found[row.part]
        if row.after == (of[-1].upto if of else 0) and row.upto > row.after:
            of.append(Piece(*row))
    return found


def _may_be_read(ledger: Ledger) -> bool:
    """Whether there are pieces that this user may read: on Postgres whoever was granted the events alone has none."""
    if not ledger.has(ROLLUPS):
        return False
    may = sa.select(sa.func.has_table_privilege(ROLLUPS.name, "SELECT").label("may"))
    return ledger.dialect == "sqlite" or bool(ledger.rows(may)[0].may)


def _decoded(ledger: Ledger, pieces: Sequence[Piece]) -> Rows:
    """The rows of the pieces, which are of one part."""
    if not pieces:
        return []
    part, table = pieces[0].part, ROLLUPS.c
    known = _DECODED.get((ledger.url, part), {})
    missing = {piece for piece in pieces if piece not in known}
    if missing:
        query = sa.select(table.part, table.after, table.upto, table.hash, table.content)
        query = query.where(table.format == FORMAT, table.part == part)
        query = query.where(table.after.in_([piece.after for piece in missing]))
        found = {Piece(*row[:4]): row.content for row in ledger.rows(query)}
        read = {piece: rows for piece, content in found.items() if (rows := _rows_of(piece, content)) is not None}
        # Another process may have written another one in its place, or a disk that was full a part of it.
        lost = {piece: PARTS[part](ledger, piece.after, piece.upto, "") for piece in missing - read.keys()}
        known = {piece: rows for piece, rows in (known | read | lost).items() if piece in pieces}
        _DECODED[ledger.url, part] = known
    return [row for piece in pieces for row in known[piece]]


def _rows_of(piece: Piece, content: str) -> Rows | None:
    """None for what is no piece, or not as it was written: it is made of its events anew."""
    digest, _, text = content.partition("\n")
    try:
        if digest != _digest(piece, text):
            return None
        rows = orjson.loads(text)
    except ValueError:
        return None
    return rows if isinstance(rows, list) else None


def _digest(piece: Piece, text: str) -> str:
    """Of a piece's rows and of its place in the chain. Raises UnicodeEncodeError for a text that is no UTF-8."""
    place = f"{FORMAT}:{piece.part}:{piece.after}:{piece.upto}:{piece.hash}\n"
    return hashlib.sha256(f"{place}{text}".encode()).hexdigest()


def _keep(ledger: Ledger, made: Mapping[Piece, Rows]) -> None:
    """Writes the pieces where this user may."""
    try:
        _write(ledger, made)
    except LedgerError as error:
        _log.info("the roll-ups are not kept, so each reader reads all events: %s", error)


def _write(ledger: Ledger, made: Mapping[Piece, Rows]) -> None:
    """In one write, in place of what does not follow and of what an older version wrote. Who reads waits for no writer."""
    table = ROLLUPS.c
    with ledger.writing(wait=False) as connection:
        ROLLUPS.create(connection, checkfirst=True)
        connection.execute(ROLLUPS.delete().where(table.format < FORMAT))
        for piece, rows in made.items():
            later = sa.and_(table.part == piece.part, table.format == FORMAT, table.after >= piece.after)
            connection.execute(ROLLUPS.delete().where(later))
            text = json.dumps(rows, separators=(",", ":"))
            content = f"{_digest(piece, text)}\n{text}"
            connection.execute(ROLLUPS.insert().values(format=FORMAT, content=content, **vars(piece)))
