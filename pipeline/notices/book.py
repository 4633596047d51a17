"""Who is still to be told of what, as the ledger has it: nothing else is kept, so a restart tells nothing twice and loses nothing.

A recipient that is new is told from then on (NoticesBegan). A matter is told once to each recipient: NoticeSent with its key says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pipeline.errors import LedgerError
from pipeline.ledger.events import Event
from pipeline.ledger.slo_events import DiskHasRoom, DiskNearlyFull, NoticeFailed, NoticesBegan, NoticeSent
from pipeline.ledger.store import Entry, Ledger
from pipeline.notices.matters import Matter, kinds, matters_of, over
from pipeline.settings.notify import Recipient

RUN, STEP = "notices", "notices"
# What nobody could be told of for so long is given up: a message about it would mislead by now.
GIVE_UP = timedelta(days=3)
TeamOf = Callable[[str], str | None]


@dataclass
class Book:
    """`read` takes in what is new in the ledger; `waiting` says what a recipient is still to be told."""

    ledger: Ledger
    team_of: TeamOf
    _after: int | None = None
    _began: dict[str, int] = field(default_factory=dict)
    _sent: set[tuple[str, str]] = field(default_factory=set)
    _matters: dict[str, Matter] = field(default_factory=dict)
    # For a recipient that is told of matters since a number: the newest event that goes on with each.
    _newest: dict[str, int] = field(default_factory=dict)
    # What was decided meanwhile.
    _over: set[str] = field(default_factory=set)
    disk_told: bool = False

    def read(self, recipients: Iterable[Recipient], now: datetime | None = None) -> None:
        """Reads the new events, and lets a new recipient begin. Raises LedgerError."""
        now = now or datetime.now(UTC)
        if self._after is None:
            self._begin(now)
        assert self._after is not None
        for recipient in recipients:
            if recipient.label not in self._began:
                began = self.ledger.append(NoticesBegan(target=recipient.label), run=RUN, step=STEP)
                self._began[recipient.label] = began.seq
        events: list[Entry[Event]] = self.ledger.events(*kinds(), after=self._after)
        for entry in events:
            self._after = max(self._after, entry.seq)
            try:
                self._end(over(entry))
                self._take(matters_of(entry))
            except LedgerError:
                # One row that cannot be read; `verify` names it, and tells of it.
                continue
        self._forget(now)

    def _begin(self, now: datetime) -> None:
        after = self.ledger.number_at(_text(now - GIVE_UP))
        for began in self.ledger.events(NoticesBegan):
            self._began.setdefault(began.event.target, began.seq)
        for sent in self.ledger.events(NoticeSent):
            self._sent.add((sent.event.target, sent.event.key))
        for failed in self.ledger.events(NoticeFailed):
            if failed.event.given_up:
                self._sent |= {(failed.event.target, key) for key in failed.event.keys}
        disk: list[Entry[DiskNearlyFull | DiskHasRoom]] = self.ledger.newest(DiskNearlyFull, DiskHasRoom)
        self.disk_told = bool(disk) and isinstance(disk[-1].event, DiskNearlyFull)
        self._after = after

    def _end(self, keys: str) -> None:
        if keys:
            self._over |= {key for key in self._matters if key.startswith(keys)}

    def _take(self, matters: Iterable[Matter]) -> None:
        for matter in matters:
            self._matters.setdefault(matter.key, matter)
            self._newest[matter.key] = max(matter.of, self._newest.get(matter.key, 0))

    def add(self, matter: Matter) -> None:
        """A matter that the ledger cannot hold now: it is told all the same, and after a restart perhaps once more."""
        self._matters[matter.key] = matter

    def _forget(self, now: datetime) -> None:
        old = _text(now - 2 * GIVE_UP)
        for key in [key for key, matter in self._matters.items() if matter.at < old]:
            del self._matters[key]
            self._over.discard(key)
            self._newest.pop(key, None)

    def matters(self) -> list[Matter]:
        """Those of the last days, in the order in which they came."""
        return list(self._matters.values())

    def takes(self, recipient: Recipient, matter: Matter) -> bool:
        return recipient.takes(matter.model, self.team_of(matter.model) if matter.model else None, matter.severity)

    def is_told(self, recipient: Recipient, matter: Matter) -> bool:
        return (recipient.label, matter.key) in self._sent

    def waiting(self, recipient: Recipient) -> list[Matter]:
        """What the recipient takes, has not been told, and happened since it began."""
        began = self._began.get(recipient.label)
        if began is None:
            return []
        return [
            matter
            for key, matter in self._matters.items()
            if not self.is_told(recipient, matter)
            and key not in self._over
            and (matter.of == 0 or self._newest.get(key, matter.of) > began)
            and self.takes(recipient, matter)
        ]

    def told(self, recipient: Recipient, matters: Sequence[Matter]) -> None:
        """Writes that the recipient was told. Raises LedgerError; then it is remembered until a restart."""
        self._sent |= {(recipient.label, matter.key) for matter in matters}
        for matter in matters:
            event = NoticeSent(
                target=recipient.label, key=matter.key, of=matter.of, severity=matter.severity, said=matter.said
            )
            self.ledger.append(event, matter.model, RUN, STEP)

    def failed(self, recipient: Recipient, matters: Sequence[Matter], why: str, given_up: bool = False) -> None:
        """Writes that the recipient could not be told. Raises LedgerError."""
        keys = [matter.key for matter in matters]
        if given_up:
            self._sent |= {(recipient.label, key) for key in keys}
        models = {matter.model for matter in matters}
        event = NoticeFailed(target=recipient.label, keys=keys, why=why, given_up=given_up)
        self.ledger.append(event, models.pop() if len(models) == 1 else "", RUN, STEP)


def _text(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
