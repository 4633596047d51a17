"""Which version went live since somebody was last told: what the asset `champion__MODEL` is emitted for.

It goes by the ledger, so a version that the command line brought live, or that went live in a task which was killed, is told by the
model's next task that asks. That it was told is noted once the task has succeeded, since Airflow emits the event with the success: a
task that is killed in between tells again, and no version that stays live is told to nobody.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pipeline.context import Context
from pipeline.ledger.events import ChampionTold, VersionRegistered
from pipeline.ledger.package_of_version import PackageOfVersion
from pipeline.ledger.rollout_events import MOVES, Move, Undeployed
from pipeline.ledger.store import Entry


@dataclass(frozen=True)
class ChampionNews:
    """The version that went live, `since` when, and the data and the as-of that it was trained with ('' where the ledger does not say)."""

    model: str
    version: str
    digest: str
    data_version: str
    as_of: str
    since: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def untold(context: Context, model: str) -> ChampionNews | None:
    """What is to be told now; None when no version went live since the last time, or none is live."""
    told = context.ledger.events(ChampionTold, model=model)
    after = told[-1].event.move if told else 0
    moves: list[Entry[Move | Undeployed]] = context.ledger.events(*MOVES, Undeployed, model=model)
    live: PackageOfVersion | None = None
    newest: Entry[Move | Undeployed] | None = None
    for move in moves:
        before, live = live, _package(move.event)
        same = before is not None and live is not None and live.is_same(before)
        if live is None:
            newest = None
        elif move.seq > after and not same:
            newest = move
    if newest is None or live is None:
        return None
    registered = [
        entry.event
        for entry in context.ledger.events(VersionRegistered, model=model)
        if entry.event.version == live.version and entry.seq < newest.seq
    ]
    data_version, as_of = (registered[-1].data_version, registered[-1].as_of) if registered else ("", "")
    return ChampionNews(model, live.version, live.digest, data_version, as_of, newest.at)


def note(context: Context, run: str, news: ChampionNews) -> None:
    """Notes that the news were told."""
    moves: list[Entry[Move | Undeployed]] = context.ledger.events(*MOVES, Undeployed, model=news.model)
    move = next(entry.seq for entry in reversed(moves) if entry.at == news.since)
    context.ledger.append(ChampionTold(version=news.version, digest=news.digest, move=move), news.model, run)


def _package(event: Move | Undeployed) -> PackageOfVersion | None:
    return None if isinstance(event, Undeployed) else PackageOfVersion(event.version, event.digest or "")
