"""Is the ledger whole? Its chain shows changed rows; anchors outside it show that its last rows are gone.

An anchor is the ledger's head at the time at which a version was registered or brought live, or a route was written. It is in
the version's tags in MLflow and in the route file (see pipeline.ledger.chain). What happened since the newest anchor has
none yet, until the monitor's daily check makes one.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pipeline.context import Context
from pipeline.errors import LedgerError, PerennialError
from pipeline.ledger import rollups
from pipeline.ledger.chain import Anchor, ChainCheck, ClockStep, Head
from pipeline.ledger.events import AnchorsAccepted, LedgerVerified
from pipeline.ledger.timeline import live_version
from pipeline.rollout.routing import route_file

VERIFY_EVERY = timedelta(hours=20)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LedgerCheck:
    """`missing` says what the anchors know and the ledger lacks, `unchecked` which anchors could not be read.

    `first_broken` is the number of the first row that breaks the chain. The times of `clock_steps` are before earlier ones.
    """

    events: int
    first_broken: int | None
    missing: str
    anchors: int
    unchecked: tuple[str, ...]
    clock_steps: tuple[ClockStep, ...]

    @property
    def intact(self) -> bool:
        return self.first_broken is None and not self.missing

    @property
    def observation(self) -> str:
        """What is wrong; '' when nothing is."""
        return self.missing if self.first_broken is None else f"the chain breaks at event {self.first_broken}"

    @property
    def next_check(self) -> str:
        if self.first_broken is not None:
            return "compare that row with a backup"
        return (
            "compare it with a backup, and check $PERENNIAL_LEDGER_URL; after a restore on purpose: "
            "`perennial verify --accept REASON`"
        )

    @property
    def problem(self) -> str:
        """What is wrong and the next step, in one line; '' when nothing is."""
        return f"ledger: {self.observation}; {self.next_check}" if self.observation else ""

    @property
    def notes(self) -> list[str]:
        """What does not make the ledger broken, and a reader of it should know."""
        notes = [f"not checked: {line}" for line in self.unchecked]
        if self.clock_steps:
            first = self.clock_steps[0]
            notes.append(
                f"a clock was set back: {len(self.clock_steps)} events, the first is event {first.seq}, have a time before that "
                f"of an earlier event ({first.at} after {first.earlier}); the order of events is that of their numbers"
            )
        return notes

    def as_dict(self) -> dict[str, Any]:
        return {
            "events": self.events,
            "intact": self.intact,
            "first_broken_seq": self.first_broken,
            "missing": self.missing or None,
            "anchors": self.anchors,
            "not_checked": list(self.unchecked),
            "clock_set_back": [{"seq": s.seq, "at": s.at, "earlier": s.earlier} for s in self.clock_steps],
        }


def verify(context: Context) -> LedgerCheck:
    """Reads the whole ledger and compares it with the anchors outside it. Raises LedgerError when it cannot be read."""
    places, anchors, unchecked = _compared(context)
    chain = context.ledger.check_chain({head.seq for _, head in anchors})
    missing = _missing(chain, anchors) if chain.broken is None else ""
    if not (chain.events or missing) and places:
        missing = f"it has no event, but there is {places[0].where}: it was moved away, or replaced by an empty one"
    if chain.broken is not None:
        unchecked += _without_rollups(context)
    steps = tuple(context.ledger.clock_steps())
    return LedgerCheck(chain.events, chain.broken, missing, len(anchors), tuple(unchecked), steps)


def _without_rollups(context: Context) -> list[str]:
    """Removes the sums that were made of a row before it was changed; a line where this user may not."""
    try:
        rollups.forget(context.ledger)
    except LedgerError as error:
        return [f"sums of before the change, which costs and roi go on to read: {error}"]
    return []


def accept(context: Context, reason: str) -> LedgerCheck:
    """Accepts that the ledger is another than its anchors say, after a restore: an event names them, and why. Verifies again."""
    _, anchors, _ = _compared(context)
    chain = context.ledger.check_chain({head.seq for _, head in anchors})
    refused = sorted({str(head) for _, head in anchors if chain.hashes.get(head.seq) != head.hash})
    if chain.broken is None and refused:
        context.ledger.append(AnchorsAccepted(reason=reason, anchors=refused))
    return verify(context)


def _compared(context: Context) -> tuple[list[Anchor], list[tuple[str, Head]], list[str]]:
    """(all places that can have an anchor, the anchors that nobody has accepted as they are, the places not read).

    The anchors come before the chain: an event that is written meanwhile is then no missing one.
    """
    places, unchecked = _places(context)
    try:
        accepted = {anchor for entry in context.ledger.events(AnchorsAccepted) for anchor in entry.event.anchors}
    except LedgerError:
        accepted = set()  # the chain is broken, and will be named as that
    anchors = [(place.where, place.head) for place in places if place.head and str(place.head) not in accepted]
    return places, anchors, unchecked


def _places(context: Context) -> tuple[list[Anchor], list[str]]:
    """(the places that can have an anchor, one line for each that could not be read)."""
    routed = route_file.routed_models(context.home)
    places = [Anchor(f"the route of {model}", route_file.head_of(context.home, model)) for model in routed]
    unchecked = []
    if context.environment.deployer:
        unchecked.append("the route files, which are on the deployer's machine")
    names = {*routed, *context.ledger.models()}
    try:
        names |= set(context.params.models)
    except PerennialError as error:
        unchecked.append(f"models without a route or an event: {error}")
    try:
        places += context.registry.anchors(sorted(names))
    except PerennialError as error:
        unchecked.append(f"the versions' tags in MLflow: {error}")
    return places, unchecked


def _missing(chain: ChainCheck, anchors: list[tuple[str, Head]]) -> str:
    """What the anchors know and the chain lacks; '' when it has all of it."""
    where, last = max(anchors, key=lambda anchor: anchor[1].seq, default=("", Head(0, "")))
    if last.seq > chain.events:
        gone = last.seq - chain.events
        end = f"it ends at event {chain.events}" if chain.events else "it has no event"
        lacks = "1 event is" if gone == 1 else f"{gone} events are"
        return f"{end}, but {where} was written at event {last.seq}: at least {lacks} missing"
    other = [(head.seq, where) for where, head in anchors if chain.hashes[head.seq] != head.hash]
    if other:
        seq, where = min(other)
        return (
            f"event {seq} is another than the one at which {where} was written: the ledger was replaced or written anew"
        )
    return ""


def verify_daily(context: Context, run: str, model: str) -> str:
    """Verifies the ledger when nobody has since VERIFY_EVERY; returns what was found, in one line.

    The event LedgerVerified says it too, and the live version's tags get the new head as their anchor. Raises LedgerError
    when the ledger is not whole; then each monitor run checks again.
    """
    before = context.ledger.events(LedgerVerified)
    if before and before[-1].event.intact and _is_recent(context, before[-1].at):
        return f"verified already at {before[-1].at}: {before[-1].event.sentence()}"
    checked = verify(context)
    found = before[-1] if before and not before[-1].event.intact and not checked.intact else None
    event = LedgerVerified(
        intact=checked.intact,
        events=checked.events,
        anchors=checked.anchors,
        problem=checked.problem,
        notes=checked.notes,
        broken_at=checked.first_broken,
        since=(found.event.since or found.at) if found is not None else None,
    )
    written = context.ledger.append(event, model, run)
    if not checked.intact:
        raise LedgerError("ledger", checked.observation, checked.next_check)
    _anchor_live(context, model, written.head)
    return event.sentence()


def _is_recent(context: Context, at: str) -> bool:
    # Whichever way a clock was set.
    return abs(context.clock() - datetime.fromisoformat(at)) < VERIFY_EVERY


def _anchor_live(context: Context, model: str, head: Head) -> None:
    """Writes the head into the tags of the model's live version. The check holds also when that is not possible."""
    version = live_version(context.ledger, model)
    if not version:
        return
    try:
        context.registry.anchor(model, version, head)
    except PerennialError as error:
        log.warning("%s", error)
