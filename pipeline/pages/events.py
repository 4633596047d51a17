"""The page of single events of the ledger, which the figures of other pages lead to: some by their numbers, or the newest of a kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from pipeline.context import Context
from pipeline.errors import LedgerError, SettingsError
from pipeline.html.templates import rendered
from pipeline.ledger.events import KINDS
from pipeline.ledger.store import EVENTS, Entry

# The newest of a kind, or of a list; a body is shown up to so many characters.
SHOWN, LONGEST = 100, 4000
# No event has a larger number, and no database takes one that is far larger.
LARGEST = 2**31 - 1


def events_page(context: Context, of: str = "", kind: str = "", model: str = "") -> str:
    """The page as HTML: the events with the numbers `of`, like "12,15", else the newest of `kind`, like "approved,rejected", '' for any, and
    `model`, '' for all.
    Raises SettingsError for what is no number, and for an unknown kind."""
    return rendered(Path(__file__).with_name("events.html"), facts(context, of, kind, model))


def facts(context: Context, of: str, kind: str, model: str) -> dict[str, Any]:
    """The template's values."""
    kinds = kind.split(",") if kind else []
    if unknown := [each for each in kinds if each not in KINDS]:
        raise SettingsError(f"kind {unknown[0][:60]}", "is not known", "`perennial timeline MODEL` shows the kinds")
    wanted = _numbers(of)
    query = sa.select(EVENTS).order_by(EVENTS.c.seq.desc()).limit(SHOWN)
    if of:
        query = query.where(EVENTS.c.seq.in_([number for number in wanted if abs(number) <= LARGEST]))
    if kinds:
        query = query.where(EVENTS.c.kind.in_(kinds))
    if model:
        query = query.where(EVENTS.c.model == model)
    rows = context.ledger.rows(query)
    entries: list[Entry[Any]] = [Entry(r.seq, r.at, r.model, r.run, r.step, r.kind, r.body, r.hash) for r in rows]
    return {
        "events": [
            {
                "seq": each.seq,
                "at": each.at,
                "model": each.model,
                "run": each.run,
                "step": each.step,
                "kind": each.kind,
                "hash": each.hash,
                **_told(each),
            }
            for each in entries
        ],
        "of": of,
        "kind": kind,
        "model": model,
        "missing": sorted(set(wanted) - {each.seq for each in entries}),
        "full": not of and len(entries) == SHOWN,
    }


def _numbers(of: str) -> list[int]:
    try:
        numbers = [int(each) for each in of.split(",") if each.strip()]
    except ValueError as error:
        raise SettingsError(f"events {of[:60]!r}", "are no numbers", "write them like 12,15") from error
    return numbers[-SHOWN:]


def _told(entry: Entry[Any]) -> dict[str, str]:
    """Its sentence and its body; what is broken in one event is said in its place."""
    try:
        return {"said": entry.event.sentence(), "body": _begin(entry)}
    except LedgerError as error:
        return {"said": str(error), "body": entry.text[:LONGEST]}


def _begin(entry: Entry[Any]) -> str:
    """The body's first LONGEST characters; a picture's matrix, which has a hundred thousand, is written no further."""
    begin, length = [], 0
    for piece in json.JSONEncoder(indent=1, ensure_ascii=False, default=str).iterencode(entry.body):
        begin.append(piece)
        length += len(piece)
        if length > LONGEST:
            return f"{''.join(begin)[:LONGEST]}\n… of {len(entry.text):,} characters in the ledger"
    return "".join(begin)
