"""Which version went live since somebody was last told: what the asset `champion__MODEL` is emitted for.

It goes by the ledger, so a version that the command line brought live, or that went live in a task which was killed, is told by the
model's next task that asks.
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


def take(context: Context, run: str, model: str) -> ChampionNews | None:
    """What is to be told now, and notes that it is; None when no version went live since the last time, or none is live."""
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
    context.ledger.append(ChampionTold(version=live.version, digest=live.digest, move=newest.seq), model, run)
    return ChampionNews(model, live.version, live.digest, data_version, as_of, newest.at)


def _package(event: Move | Undeployed) -> PackageOfVersion | None:
    return None if isinstance(event, Undeployed) else PackageOfVersion(event.version, event.digest or "")
