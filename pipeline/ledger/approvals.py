"""What people have said about a version, as the ledger has it: only what came after it was asked for last counts.

A rejection stands until somebody asks again, also beside an approval that was on its way when it came.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime

from pipeline.ledger.approval_events import AIRFLOW, ApprovalAsked, Approved, Rejected
from pipeline.ledger.events import RunOpened, VersionRegistered
from pipeline.ledger.store import Entry, Ledger


@dataclass(frozen=True)
class Standing:
    """The last time that approval was asked for, and what was decided since; None for neither."""

    asked: Entry[ApprovalAsked] | None
    decided: Entry[Approved | Rejected] | None

    @property
    def approved(self) -> Entry[Approved] | None:
        return self.decided if self.decided is not None and isinstance(self.decided.event, Approved) else None  # type: ignore[return-value]

    def rejected(self, now: datetime) -> str:
        """Why the version counts as rejected; '' when it does not."""
        if self.decided is not None:
            event = self.decided.event
            sentence = event.sentence().removeprefix(f"version {event.version} ")
            return f"was {sentence}" if isinstance(event, Rejected) else ""
        if self.asked is None or not self.asked.event.until or datetime.fromisoformat(self.asked.event.until) > now:
            return ""
        return f"nobody approved it until {self.asked.event.until}, which rejects it"


def standing(ledger: Ledger, model: str, version: str) -> Standing:
    """By the newest question: to ask again forgets what was decided before. A rejection holds against approvals after
    it."""
    entries: list[Entry[ApprovalAsked | Approved | Rejected]]
    entries = ledger.events(ApprovalAsked, Approved, Rejected, model=model)
    asked, decided = None, None
    for entry in entries:
        if entry.event.version != version:
            continue
        if isinstance(entry.event, ApprovalAsked):
            asked, decided = entry, None
        elif decided is None or not isinstance(decided.event, Rejected):
            decided = entry
    return Standing(asked, decided)  # type: ignore[arg-type]


def approval_of_package(ledger: Ledger, model: str, version: str, package: str) -> Approved | None:
    """The newest approval of the version with this package, also where it does not stand any more; None when nobody approved it."""
    events = [e.event for e in ledger.events(Approved, model=model) if e.event.version == version]
    return next((event for event in reversed(events) if event.parts.get("package") == package), None)


def parked_run(ledger: Ledger, model: str, version: str) -> str:
    """The run of Airflow that asked last about the version, DAG/RUN; '' when none did. It may have been answered since."""
    entries = [e for e in ledger.events(ApprovalAsked, model=model) if e.event.version == version]
    return next((e.run for e in reversed(entries) if e.event.through == AIRFLOW), "")


def registered(ledger: Ledger, model: str, version: str) -> Entry[VersionRegistered] | None:
    """The last registration of a version with this number."""
    entries = ledger.events(VersionRegistered, model=model)
    return next((entry for entry in reversed(entries) if entry.event.version == version), None)


def askers(ledger: Ledger, model: str, version: str) -> list[str]:
    """Who asked for the approval last, and who started the run that registered the version; none when no person did."""
    asked, entry = standing(ledger, model, version).asked, registered(ledger, model, version)
    opened = ledger.events(RunOpened, run=entry.run) if entry is not None and entry.run else []
    people = [asked.event.asked_by if asked is not None else None, opened[-1].event.asked_by if opened else None]
    return [name for name in dict.fromkeys(people) if name]


def same_person(one: str, other: str) -> bool:
    """Whether two names differ by no more than case, blanks, letters that cannot be seen, and how Unicode writes a letter."""
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    letters = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join("".join(each for each in letters if unicodedata.category(each) != "Cf").split())
