"""Which events people are told of: a matter has a key by which it is told once, a severity, a sentence, and what to do next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.ledger.events import KINDS, DriftChecked, Event, GatesChecked, LedgerVerified
from pipeline.ledger.rollout_events import RolledBack, RolloutFailed
from pipeline.ledger.slo_events import BudgetBurning, BudgetSpent, BurnRollbackHeld, DiskNearlyFull
from pipeline.ledger.store import Entry

LONGEST_SAID = 600
LONGEST_LIST = 3
# By hand: nobody needs to be told that it happened, who wants to know all is.
BY_HAND = "by hand"


@dataclass(frozen=True)
class Matter:
    """`at` is when it happened (UTC, ISO 8601), `of` the number of its event, 0 for what the ledger does not have."""

    key: str
    model: str
    severity: str
    said: str
    next_step: str
    at: str
    of: int = 0

    @property
    def title(self) -> str:
        return f"[{self.severity}] {self.model or 'Perennial'}"

    @property
    def text(self) -> str:
        return f"{self.said}\nNext: {self.next_step}\n({self.at}{f', event {self.of}' if self.of else ''})"


Told = tuple[str, str, str, str]
# What a kind of event tells: (the rest of the key, severity, sentence, next step), or None when it is no matter.
Tell = Callable[[Any, Entry[Any]], Told | None]


def matters_of(entry: Entry[Any]) -> list[Matter]:
    """The matters that the event begins or goes on with. Raises LedgerError for a body that cannot be read."""
    return [_matter(entry, *told) for tell in TELLS.get(entry.kind, ()) if (told := tell(entry.event, entry))]


def _matter(entry: Entry[Any], key: str, severity: str, said: str, next_step: str) -> Matter:
    said = said if len(said) <= LONGEST_SAID else f"{said[:LONGEST_SAID]}…"
    # A look at the whole ledger is noted with the model whose monitor made it.
    model = "" if entry.kind == LedgerVerified.KIND else entry.model
    return Matter(f"{entry.kind}:{model}:{key}", model, severity, said, next_step, entry.at, entry.seq)


def over(entry: Entry[Any]) -> str:
    """The begin of the keys of matters that the event ends, so that nobody is told of them any more; '' for none."""
    if entry.kind not in ENDS:
        return ""
    return f"{ENDS[entry.kind]}:{entry.model}:{entry.body.get('version', '')}:"


def kinds() -> list[type[Event]]:
    """The kinds of events that may be matters, or end one."""
    return [KINDS[kind] for kind in (*TELLS, *ENDS) if kind in KINDS]


def _drift(event: DriftChecked, entry: Entry[Any]) -> Told | None:
    """An alarm is one matter from its first look to its last."""
    alarm = event.alarm
    if not alarm or alarm.get("ended"):
        return None
    report = f"; the report: {event.report}" if event.report else ""
    next_step = f"perennial decide {entry.model} says whether a retrain pays{report}"
    return str(alarm.get("since", event.as_of)), "warning", f"drift alarm: {event.sentence()}", next_step


def _requests(event: DriftChecked, entry: Entry[Any]) -> Told | None:
    """Requests that do not come as usual are a matter of their own, from the first look that says so to the last."""
    data = event.data or {}
    if data.get("verdict") != "alarm":
        return None
    since = str(data.get("since") or event.as_of)
    said = f"requests do not come as usual: {data.get('reason', '')}"
    next_step = f"look at what sends them; perennial drift {entry.model} says whether it goes on"
    return f"requests {since}", "warning", said, next_step


def _quarantine(event: DriftChecked, entry: Entry[Any]) -> Told | None:
    """A partition with more rows in quarantine than usual is told once, whatever looks see it again."""
    unusual = (event.quarantine or {}).get("unusual")
    if not unusual:
        return None
    said = f"more rows than usual are in quarantine: those of {', '.join(map(str, unusual))}"
    next_step = f"perennial drift {entry.model} has the shares; the newest run's gates name the rules"
    return f"quarantine {max(map(str, unusual))}", "warning", said, next_step


def _source(event: DriftChecked, entry: Entry[Any]) -> Told | None:
    """A day on which the source has unusually few or many rows is told once."""
    unusual = (event.source or {}).get("unusual")
    if not unusual:
        return None
    each = ", ".join(f"{rows:,.0f} on {day} ({usual:,.0f} are usual)" for day, (rows, usual) in unusual.items())
    said = f"the source has not the rows that it used to have: {each}"
    next_step = f"look at what fills it; perennial drift {entry.model} says whether it goes on"
    return f"source {max(map(str, unusual))}", "warning", said, next_step


def _gates(event: GatesChecked, entry: Entry[Any]) -> Told | None:
    failed = [v for v in event.verdicts if not v.get("passed") and v.get("mode") != "warn"]
    if not failed:
        return None
    each = [f"{v.get('gate')}: {v.get('reason', '')}".rstrip(": ") for v in failed]
    more = f" and {len(each) - LONGEST_LIST} more" if len(each) > LONGEST_LIST else ""
    said = f"{len(each)} of {len(event.verdicts)} gates failed, so that nothing is registered: {'; '.join(each[:LONGEST_LIST])}{more}"
    next_step = (
        f"perennial timeline {entry.model}; mend the data, or change the limit under gates of models.{entry.model}"
    )
    return entry.run, "warning", said, next_step


def _approval(event: Event, entry: Entry[Any]) -> Told:
    version = entry.body.get("version", "")
    said = event.sentence() or f"version {version} waits for approval"
    next_step = f"perennial approve {entry.model} {version}, or answer on the page of its run in Airflow"
    return f"{version}:{entry.seq}", "warning", said, next_step


def _rolled_back(event: RolledBack, entry: Entry[Any]) -> Told:
    by_hand = bool(event.asked_by) or BY_HAND in (event.reason or "")
    said = f"version {event.left} was rolled back, version {event.version} is live: {event.reason or 'no reason given'}"
    next_step = f"perennial timeline {entry.model}; only perennial deploy {entry.model} {event.left} brings it back"
    return str(entry.seq), "info" if by_hand else "critical", said, next_step


def _rollout_failed(event: RolloutFailed, entry: Entry[Any]) -> Told | None:
    """One that had all traffic is told as a rollback."""
    if event.rolled_back:
        return None
    next_step = f"perennial timeline {entry.model}; what was live stays live; perennial deploy {entry.model} {event.version} tries again"
    return str(entry.seq), "warning", event.sentence(), next_step


def _burning(event: BudgetBurning, entry: Entry[Any]) -> Told:
    next_step = f"perennial slo {entry.model}; perennial rollback {entry.model} if its last rollout did it"
    return f"{event.objective}:{entry.seq}", event.severity, event.sentence(), next_step


def _spent(event: BudgetSpent, entry: Entry[Any]) -> Told:
    next_step = f"perennial slo {entry.model}; perennial freeze {entry.model} keeps it as it is until something is left"
    return f"{event.objective}:{entry.seq}", "critical", event.sentence(), next_step


def _held(event: BurnRollbackHeld, entry: Entry[Any]) -> Told:
    next_step = f"perennial slo {entry.model}; look for a cause outside of the version, such as the machine's load"
    return str(entry.seq), "critical", event.sentence(), next_step


def _disk(event: DiskNearlyFull, entry: Entry[Any]) -> Told:
    return str(entry.seq), "critical", disk_said(event), disk_next(event.folder)


def disk_said(event: DiskNearlyFull) -> str:
    return f"disk nearly full: {event.free_share:.1%} of the disk of {event.folder} is free, {event.free_mb:,} MiB (notify.disk_free is {event.limit:g})"


def disk_next(folder: str) -> str:
    """What to do, as one line with its command."""
    return f"du -xsh {folder}/* shows what takes the room; a smaller workspaces.keep in params.yaml gives back old workspaces"


def _chain(event: LedgerVerified, entry: Entry[Any]) -> Told | None:
    """Each monitor's check finds the same trouble again, in other words as the ledger grows: that is one matter until it is over."""
    if event.intact:
        return None
    next_step = (
        "perennial verify names the row; restore the ledger from a backup, then perennial verify --accept REASON"
    )
    key = f"{event.since or entry.at}:{event.broken_at or 'missing'}"
    return key, "critical", f"the ledger's chain is broken: {event.problem}", next_step


# The kinds of events that end a matter, and its kind.
ENDS = {"approved": "approval_asked", "rejected": "approval_asked"}
TELLS: dict[str, Sequence[Tell]] = {
    DriftChecked.KIND: (_drift, _requests, _quarantine, _source),
    GatesChecked.KIND: (_gates,),
    "approval_asked": (_approval,),
    RolledBack.KIND: (_rolled_back,),
    RolloutFailed.KIND: (_rollout_failed,),
    BudgetBurning.KIND: (_burning,),
    BudgetSpent.KIND: (_spent,),
    BurnRollbackHeld.KIND: (_held,),
    DiskNearlyFull.KIND: (_disk,),
    LedgerVerified.KIND: (_chain,),
}
