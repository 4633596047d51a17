"""Whether a run may still replace what is live: it never puts an older version over a younger one, nor one that it was not compared with.

A run that is cleared in Airflow, or that waited for another one's rollout, comes late: since its gates were checked another version
may have gone live, by another run or by a person. A person may deploy any registered version, by name.
"""

from __future__ import annotations

from pipeline.errors import RolloutError
from pipeline.ledger.events import GatesChecked, RunOpened, VersionRegistered
from pipeline.ledger.rollout_events import MOVES, Move, Undeployed
from pipeline.ledger.store import Entry, Ledger
from pipeline.settings.models import time_of


def check(ledger: Ledger, run: str, model: str, version: str) -> None:
    """Raises RolloutError when the run may not bring the version live any more. `run` '' means that a person asks by name."""
    if not run or not ledger.events(RunOpened, run=run):
        return
    changed = _last_change(ledger, model)
    if changed is None:
        return
    by_name = f"to bring it live all the same: `perennial deploy {model} {version}`"
    subject = f"version {version} of {model}"
    live = "" if isinstance(changed.event, Undeployed) else changed.event.version
    mine, theirs = _as_of(ledger, model, version, run), _as_of(ledger, model, live) if live else None
    if mine and theirs and time_of(mine) < time_of(theirs):
        observed = f"is as of {mine}, and version {live}, which is live, is younger: as of {theirs}"
        raise RolloutError(subject, observed, by_name)
    gates = ledger.events(GatesChecked, run=run)
    if not gates or gates[-1].seq < changed.seq:
        what = f"version {live} went live" if live else f"{model} was undeployed"
        observed = f"was not compared with what is live: {what} after this run's gates were checked"
        raise RolloutError(subject, observed, f"start a new run, or clear this one from its first task on; {by_name}")


def _last_change(ledger: Ledger, model: str) -> Entry[Move | Undeployed] | None:
    """The event by which what is live now went live, or the model was undeployed; None when it was never live.

    A rollout that failed gives the traffic back to the version that was live before: that is no change.
    """
    entries: list[Entry[Move | Undeployed]] = ledger.events(*MOVES, Undeployed, model=model)
    first = None
    for entry in entries:
        if first is None or not _same(entry.event, first.event):
            first = entry
    return first


def _same(event: Move | Undeployed, before: Move | Undeployed) -> bool:
    """Whether both leave the same version live, and the same package as far as both name one."""
    if isinstance(event, Undeployed) or isinstance(before, Undeployed):
        return isinstance(event, Undeployed) and isinstance(before, Undeployed)
    return event.version == before.version and (not event.digest or not before.digest or event.digest == before.digest)


def _as_of(ledger: Ledger, model: str, version: str, run: str = "") -> str | None:
    """The as-of of the version, as its run (default: the last one that registered such a number) has it; None when unknown."""
    entries = ledger.events(VersionRegistered, model=model, run=run)
    return next((entry.event.as_of for entry in reversed(entries) if entry.event.version == version), None)
