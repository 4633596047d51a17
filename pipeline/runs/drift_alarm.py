"""The alarm of a look, by the looks before it, as the ledger has them; and that a retrain was asked for because of it.

A look goes by those with an earlier as-of alone. So a look that is repeated, or made later for the past, gives the answer that it gave,
as long as the same version is live.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pipeline.context import Context
from pipeline.ledger.events import DriftChecked, RetrainAsked, VersionRegistered
from pipeline.ledger.store import Ledger
from pipeline.ledger.timeline import LiveVersion
from pipeline.monitoring.profiles.reference import Reference
from pipeline.policy import alarms
from pipeline.policy.alarms import Alarm, Learnt, Look
from pipeline.policy.guards import LONGEST_DAYS
from pipeline.settings.models import time_of


def learnt_by(ledger: Ledger, name: str, live: LiveVersion, reference: Reference) -> Learnt:
    """What the live version learnt from, by its own profiles; and the as-of of its run, by the ledger."""
    registered = [
        entry.event.as_of
        for entry in ledger.events(VersionRegistered, model=name)
        if entry.event.version == live.version and entry.at <= live.since
    ]
    as_of = time_of(registered[-1]) if registered else None
    days = list(reference.days) if reference.timed else []
    return Learnt(live.version, as_of, min(days, default=None), max(days, default=None))


def alarm_of(ledger: Ledger, name: str, look: Look) -> tuple[Alarm | None, str]:
    """The alarm after the look, and why it starts no retrain ('' when it does, or when there is nothing to start one for)."""
    alarm = alarms.after(_before(ledger, name, look.as_of), look)
    if alarm is None or not look.raised:
        return alarm, ""
    asked = [
        entry.event.as_of
        for entry in ledger.events(RetrainAsked, model=name)
        if entry.event.since == alarm.since and time_of(entry.event.as_of) < look.as_of
    ]
    why = alarms.standing(alarm, look, asked[0] if asked else "")
    return alarm, why or _back_again(ledger, name, alarm, look)


def _back_again(ledger: Ledger, name: str, alarm: Alarm, look: Look) -> str:
    """Why the change of an alarm of the last year that had a quiet look in between starts no retrain; '' where it does."""
    asked = {e.event.since: e.event.as_of for e in ledger.events(RetrainAsked, model=name)}
    earlier = {}
    for entry in ledger.events(DriftChecked, model=name):
        of = Alarm.read(entry.event.alarm) if entry.event.alarm else None
        recent = look.as_of - timedelta(days=LONGEST_DAYS) < _as_of(entry.event) < look.as_of
        if of is not None and recent and of.since in asked and of.since != alarm.since:
            earlier[of.since] = of
    found = (alarms.back_again(of, look, asked[since]) for since, of in earlier.items())
    return next(filter(None, found), "")


def _before(ledger: Ledger, name: str, as_of: datetime) -> Alarm | None:
    """The alarm that the look before left, which is the newest one of its as-of."""
    earlier = [entry for entry in ledger.events(DriftChecked, model=name) if _as_of(entry.event) < as_of]
    if not earlier:
        return None
    last = max(earlier, key=lambda entry: (_as_of(entry.event), entry.seq)).event
    return Alarm.read(last.alarm) if last.alarm else None


def _as_of(look: DriftChecked) -> datetime:
    return time_of(look.as_of)


def asked_by(context: Context, name: str, since: str) -> str:
    """The run that asked for a retrain because of the alarm since then; '' when none did."""
    asked = [e.run for e in context.ledger.events(RetrainAsked, model=name) if e.event.since == since]
    return asked[0] if asked else ""


def note_asked(context: Context, run: str, name: str, asked: RetrainAsked) -> None:
    """Notes that a retrain was asked for, once the event that starts it is sent: a task that is killed before asks again."""
    context.ledger.append(asked, name, run)
