"""The processor time that slots take, from their own counters into the ledger: once a day, and when a slot is gone.

Each round of checks reads the slots' pages. A counter belongs to the process that was started at one time; of a new one all counts, so that
a slot which was killed, or started again while nobody looked, loses at most what it took since its last look. What was read and is not
in the ledger yet is kept in $PERENNIAL_HOME/slo.db, with the counter that it was read up to: a service that is killed counts none twice.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import DataError
from pipeline.ledger.newest_events import newest_of
from pipeline.ledger.store import Ledger
from pipeline.ledger.times import ms_of
from pipeline.ledger.usage_events import SlotUsed
from pipeline.reliability.counts import file_of

PROCESSOR, STARTED = "perennial_processor_seconds_total", "perennial_start_time_seconds"
SAMPLE = re.compile(rf"^({PROCESSOR}|{STARTED})\{{.*\}} (\S+)$", re.MULTILINE)
# Of a slot that the ledger knows nothing of yet, the first is written so soon; then one a day.
FIRST_S = 600.0
# The file has what was read at least as of so many seconds ago; the slot's own counter has the rest.
WRITE_S = 60.0
# So many of a model's newest events are looked through for how far its slots are in the ledger.
NEWEST = 20
# A counter's start is the same one within so many seconds.
SAME_S = 0.5
TABLE = """CREATE TABLE IF NOT EXISTS used (model TEXT, slot TEXT, version TEXT, start REAL, seen REAL, covered REAL, busy REAL,
    total REAL, started REAL, noted INTEGER, second INTEGER, PRIMARY KEY (model, slot, version)) WITHOUT ROWID"""

FIELDS = ("covered", "busy", "total", "started", "noted", "second")

# A model, its slot, and the version there.
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Used:
    """What a slot took from `start` on, seconds since 1970, and is not in the ledger yet: `busy` seconds of a processor in `covered` seconds up
    to `seen`, when the counter of the process that was started at `started` had `total`. `noted` says that the ledger has something of it."""

    start: float
    seen: float
    covered: float = 0.0
    busy: float = 0.0
    total: float = 0.0
    started: float = 0.0
    noted: bool = False
    second: bool = False

    def later(self, total: float, started: float, now: float) -> Used:
        """With what the counter says now. Of another process all counts; where the clock was set back, nothing is covered."""
        same = abs(started - self.started) < SAME_S and total >= self.total
        since, before = (self.seen, self.total) if same else (max(started, self.seen), 0.0)
        more = max(0.0, now - since)
        return replace(
            self,
            seen=max(now, self.seen),
            covered=self.covered + more,
            busy=self.busy + (total - before if more or same else 0.0),
            total=total,
            started=started,
        )

    def emptied(self) -> Used:
        return replace(self, start=self.seen, covered=0.0, busy=0.0, noted=True)


def counters(page: str) -> tuple[float, float] | None:
    """(seconds of a processor, when the slot was started) of a slot's page; None for one without, of a package image of before."""
    found = {name: float(value) for name, value in SAMPLE.findall(page)}
    return (found[PROCESSOR], found[STARTED]) if len(found) == 2 else None


class UsedSlots:
    """`look` is called after each round of checks, for ever, by one process of this home."""

    def __init__(self, home: Path, ledger: Ledger) -> None:
        self._file, self._ledger = file_of(home), ledger
        self._used: dict[Key, Used] | None = None
        self._written = 0.0

    def look(self, pages: Mapping[Key, str], routed: Set[Key], now: float) -> None:
        """`pages` are those that were read in this round, `routed` all slots of all routes. Raises DataError, LedgerError."""
        used = self._begun(now)
        noted = self._note([key for key, each in used.items() if key not in routed or _day(each.seen) != _day(now)])
        for key in [key for key in used if key not in routed]:
            del used[key]
        known = set(used)
        for key, page in pages.items():
            if key in routed and (found := counters(page)) is not None:
                used[key] = (used.get(key) or self._first(key, *found, now)).later(*found, now)
        noted += self._mark_second(known)
        noted += self._note([key for key, each in used.items() if not each.noted and each.covered >= FIRST_S])
        if noted or now - self._written >= WRITE_S:
            self._write(now)

    def _begun(self, now: float) -> dict[Key, Used]:
        """Goes on where an earlier process ended; what that one brought into the ledger at the very end is not brought there again."""
        if self._used is None:
            kept = self._read()
            ends = self._ends({model for model, _, _ in kept})
            self._used = {key: each for key, each in kept.items() if ends.get(key, 0.0) <= each.start + 0.001}
            self._written = now
        return self._used

    def _first(self, key: Key, total: float, started: float, now: float) -> Used:
        """A slot that was not seen before: all that it took counts, but for what the ledger has of it."""
        end = self._ends({key[0]}).get(key)
        if end is not None and end > started:
            # How much its counter had at that time is not known.
            return Used(now, now, total=total, started=started, noted=True)
        return Used(started, started, started=started, noted=end is not None)

    def _ends(self, models: Iterable[str]) -> dict[Key, float]:
        """Up to when the ledger has something of each slot."""
        found: dict[Key, float] = {}
        for model in models:
            for entry in newest_of(self._ledger, SlotUsed, model, NEWEST).entries:
                found[model, entry.event.slot, entry.event.version] = ms_of(entry.event.end) / 1000
        return found

    def _note(self, due: Sequence[Key]) -> int:
        """Writes what these slots took into the ledger; returns how many they are."""
        assert self._used is not None
        for model, slot, version in due:
            each = self._used[model, slot, version]
            for start, end, share in _months(each.start, each.seen) if each.covered else ():
                covered, busy = round(each.covered * share, 3), round(each.busy * share, 3)
                event = SlotUsed(
                    version=version,
                    slot=slot,
                    start=_iso(start),
                    end=_iso(end),
                    covered_s=covered,
                    busy_s=busy,
                    second=bool(each.second),
                )
                self._ledger.append(event, model)
            self._used[model, slot, version] = each.emptied()
        return len(due)

    def _mark_second(self, known: Set[Key]) -> int:
        """Marks the slots beside which another of their model runs that started later. What `known` ones took before is written as it was;
        returns how many they are."""
        assert self._used is not None
        newest: dict[str, float] = {}
        for (model, _, _), each in self._used.items():
            newest[model] = max(newest.get(model, 0.0), each.started)
        changed = [key for key, each in self._used.items() if each.second != (each.started < newest[key[0]])]
        noted = self._note([key for key in changed if key in known])
        for key in changed:
            self._used[key] = replace(self._used[key], second=not self._used[key].second)
        return noted

    def _read(self) -> dict[Key, Used]:
        if not self._file.is_file():
            return {}
        try:
            with closing(sqlite3.connect(self._file, timeout=10)) as db:
                db.execute(TABLE)
                rows = db.execute("SELECT * FROM used").fetchall()
        except sqlite3.Error as error:
            raise self._fault(error) from error
        return {row[:3]: replace(Used(*row[3:5]), **dict(zip(FIELDS, row[5:], strict=True))) for row in rows}

    def _write(self, now: float) -> None:
        assert self._used is not None
        try:
            with closing(sqlite3.connect(self._file, timeout=10)) as db, db:
                db.execute(TABLE)
                db.execute("DELETE FROM used")
                rows = [(*key, *astuple(each)) for key, each in self._used.items()]
                db.executemany("INSERT INTO used VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise self._fault(error) from error
        self._written = now

    def _fault(self, error: Exception) -> DataError:
        return DataError(f"counts {self._file}", f"cannot be used ({error})", "make room on the disk")


def _months(start: float, end: float) -> Iterator[tuple[float, float, float]]:
    """(start, end, share of the time): one, or where nobody looked while a month began one for each month."""
    whole = end - start
    while (first := _after_month(start)) < end - WRITE_S:
        yield start, first, (first - start) / whole
        start = first
    yield start, end, (end - start) / whole if whole else 1.0


def _after_month(at: float) -> float:
    """The begin of the next month, seconds since 1970."""
    of = datetime.fromtimestamp(at, UTC)
    return datetime(of.year + of.month // 12, of.month % 12 + 1, 1, tzinfo=UTC).timestamp()


def _day(at: float) -> int:
    return int(at // 86_400)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
