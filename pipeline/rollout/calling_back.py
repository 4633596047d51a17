"""Calls back a rollout that goes on: a note in the ledger, which whoever carries it out reads between its looks.

The note alone needs no engine and no free slot of Airflow, so that a page can write it. What ends with it is the rollout alone;
`rollback` with the version makes sure that the version has no traffic, also when the rollout had just ended, or its process had.
"""

from __future__ import annotations

from pipeline.errors import RolloutError
from pipeline.ledger.rollout_events import MOVES, AbortAsked, Move, RolloutEnded, RolloutStarted, Undeployed
from pipeline.ledger.store import Entry, Ledger, now
from pipeline.ledger.times import ms_of
from pipeline.rollout.opened import open_rollout

# So long after its end a page may still show a rollout that goes on.
JUST_ENDED_S = 60


def note(
    ledger: Ledger, model: str, version: str, reason: str, asked_by: str, run: str = ""
) -> Entry[AbortAsked] | None:
    """The note that calls the rollout of `version` back, the first one where it was called back before; None when no such rollout goes on."""
    opened = open_rollout(ledger, model)
    if opened is None or not isinstance(opened.event, RolloutStarted) or opened.event.version != version:
        return None
    before = noted(ledger, model, version, opened.seq)
    asked = AbortAsked(reason=reason, asked_by=asked_by or None, version=version)
    return before or ledger.append(asked, model, run, "roll_out")


def noted(ledger: Ledger, model: str, version: str, rollout: int) -> Entry[AbortAsked] | None:
    """The first note that calls back the rollout whose first event has the number `rollout`; None without one."""
    notes = ledger.events(AbortAsked, model=model, after=rollout)
    return next((entry for entry in notes if entry.event.version in (None, version)), None)


def check_not_settled(ledger: Ledger, model: str, version: str) -> None:
    """Raises RolloutError for a version that is live and whose rollout has not just ended: a page of then calls it back no more."""
    moves: list[Entry[Move | Undeployed]] = ledger.last(*MOVES, Undeployed, model=model)
    if not moves or isinstance(moves[-1].event, Undeployed) or moves[-1].event.version != version:
        return
    last, came_by = moves[-1], moves[-1].event
    ago_s = (ms_of(now()) - ms_of(last.at)) / 1000
    if not isinstance(came_by, RolloutEnded) or came_by.already_live or ago_s > JUST_ENDED_S:
        observed = f"no rollout of version {version} goes on, and it is live since {last.at}"
        raise RolloutError(f"model {model}", observed, f"to leave it: `perennial rollback {model}`")


def check(ledger: Ledger, model: str, version: str, rollout: int) -> None:
    """Raises RolloutError when the rollout was called back."""
    if noted(ledger, model, version, rollout) is not None:
        raise RolloutError(f"model {model}", "was called back by hand", "look at its timeline")
