"""Tells each recipient what it waits for, beside each other: one that does not answer delays no other, and is tried again after pauses."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import LedgerError
from pipeline.ledger.slo_events import DiskHasRoom, DiskNearlyFull
from pipeline.ledger.store import Ledger, now
from pipeline.notices.book import GIVE_UP, RUN, STEP, Book
from pipeline.notices.matters import Matter, disk_next, disk_said
from pipeline.notices.sending import Sent, send
from pipeline.settings.models import Params
from pipeline.settings.notify import Recipient

log = logging.getLogger(__name__)

# The pause after a failure, twice as long after each further one.
PAUSE_S, LONGEST_PAUSE_S = 5.0, 3600.0
AT_ONCE = 16
DISK_S = 60.0
# A disk counts as having room again once it has so much more free than the limit.
ROOM = 1.1
# A ledger that cannot be read for so long is a matter of its own, which it cannot hold.
AWAY_S = 60.0

Send = Callable[[str, Sequence[Matter]], Sent]


@dataclass
class _Line:
    """A recipient's line: what is on its way, how often in a row it failed, and when it may be tried again (monotonic seconds)."""

    under_way: Future[Sent] | None = None
    matters: Sequence[Matter] = ()
    failures: int = 0
    again_at: float = 0.0


@dataclass
class Teller:
    """`look` is called again and again. `settings` gives params.yaml as it is now."""

    ledger: Ledger
    settings: Callable[[], Params]
    home: Path
    send: Send = send
    _lines: dict[str, _Line] = field(default_factory=dict)
    _disk_at: float = 0.0
    _away_since: float | None = None
    _away_told: bool = False

    def __post_init__(self) -> None:
        self.book = Book(self.ledger, self._team_of)
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="notice")

    def look(self) -> None:
        """Takes in what is new, and sends what waits; never waits for a recipient."""
        notices = self.settings().notices
        try:
            self.book.read(notices.to)
            self._away_since, self._away_told = None, False
        except LedgerError as error:
            self._ledger_away(error)
        if time.monotonic() >= self._disk_at:
            self._disk_at = time.monotonic() + DISK_S
            self._look_at_disk(notices.disk_free)
        for recipient in notices.to:
            self._tell(recipient, self._lines.setdefault(recipient.label, _Line()))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _team_of(self, model: str) -> str | None:
        block = self.settings().models.get(model)
        return block.team if block is not None else None

    def _tell(self, recipient: Recipient, line: _Line) -> None:
        if line.under_way is not None:
            if not line.under_way.done():
                return
            sent, line.under_way = line.under_way.result(), None
            self._note(recipient, line, sent)
        if time.monotonic() < line.again_at:
            return
        waiting = self.book.waiting(recipient)
        if waiting:
            line.matters = waiting
            line.under_way = self._pool.submit(self.send, recipient.address, list(waiting))

    def _note(self, recipient: Recipient, line: _Line, sent: Sent) -> None:
        why, line.failures = sent.why, 0 if sent.taken else line.failures
        try:
            if sent.taken:
                self.book.told(recipient, line.matters[: sent.taken])
            line.matters = line.matters[sent.taken :]
            if not why:
                return
            line.failures += 1
            pause = min(LONGEST_PAUSE_S, PAUSE_S * 2 ** min(line.failures - 1, 20))
            line.again_at = time.monotonic() + pause
            log.warning(
                "%s could not be told of %d matters, next try in %g s: %s",
                recipient.label,
                len(line.matters),
                pause,
                why,
            )
            oldest = (datetime.now(UTC) - GIVE_UP).isoformat()
            given_up = [matter for matter in line.matters if matter.at < oldest]
            if line.failures == 1:
                self.book.failed(recipient, line.matters, why)
            if given_up:
                self.book.failed(recipient, given_up, why, given_up=True)
        except LedgerError as error:
            log.warning("what %s was told is not in the ledger: %s", recipient.label, error)

    def _look_at_disk(self, limit: float) -> None:
        """Writes when the disk of this machine's state becomes nearly full; tells it all the same when it is too full for that."""
        try:
            usage = shutil.disk_usage(self.home)
        except OSError as error:
            log.warning("%s: its disk cannot be looked at: %s", self.home, error)
            return
        free = usage.free / usage.total if usage.total else 1.0
        if self.book.disk_told and free > min(limit * ROOM, 1.0):
            self.book.disk_told = False
            self._append(DiskHasRoom(folder=str(self.home), free_share=round(free, 4)))
        elif not self.book.disk_told and free < limit:
            self.book.disk_told = True
            full = DiskNearlyFull(
                folder=str(self.home), free_share=round(free, 4), free_mb=usage.free // 2**20, limit=limit
            )
            if not self._append(full):
                matter = Matter(f"disk:{now()}", "", "critical", disk_said(full), disk_next(full.folder), now())
                self.book.add(matter)

    def _append(self, event: DiskNearlyFull | DiskHasRoom) -> bool:
        try:
            self.ledger.append(event, run=RUN, step=STEP)
        except LedgerError as error:
            log.warning("%s", error)
            return False
        return True

    def _ledger_away(self, error: LedgerError) -> None:
        log.warning("%s", error)
        self._away_since = self._away_since or time.monotonic()
        if not self._away_told and time.monotonic() - self._away_since >= AWAY_S:
            self._away_told = True
            self.book.add(Matter(f"ledger away:{now()}", "", "critical", str(error), "perennial verify", now()))
