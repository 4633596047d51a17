"""Whether a deployment paid: champion against predecessor on the same labelled rows that came later, times the model's economics, minus
what the deployment cost.

It counts on the windows that the champion answered most of (`windows.py`). Its cost is that of its runs (steps, transfer, people) and of
the second slot while both ran. A digest that went live again has its windows once, with its newest deployment, and its runs once, with
its first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.accounts.compute import compute_lines, killed_lines
from pipeline.accounts.deployment_figures import Happened, History
from pipeline.accounts.lines import PEOPLE, STORAGE, TRANSFER, Line, guessed_parts, ms_of, spans, total
from pipeline.accounts.money import as_float, whole
from pipeline.accounts.slots import SlotLife
from pipeline.accounts.statement import Statement, Terms
from pipeline.accounts.windows import Gain, ScoredWindow, gain, unit
from pipeline.ledger.events import VersionRegistered
from pipeline.ledger.rollout_events import RolledBack, RolloutEnded, Undeployed
from pipeline.ledger.rollup_parts import MOVED
from pipeline.ledger.rollups import rolled_up
from pipeline.ledger.store import Ledger
from pipeline.settings.accounts import Prices

# What the bill has of each run; of steps it has only the newest runs by themselves.
OF_THE_BILL = (STORAGE, TRANSFER, PEOPLE)
FIRST, PAID, DID_NOT_PAY, OPEN, UNKNOWN = "the first version", "paid", "did not pay", "open", "no labels yet"


class Moved(NamedTuple):
    """What went live, or was taken off, as the roll-up has it."""

    model: str
    seq: int
    at: str
    kind: str
    run: str
    version: str
    digest: str
    already_live: bool


@dataclass(frozen=True)
class Deployment:
    """`version` went live in place of `previous`, '' for none. `cost` is in parts of the currency (money.py); `gain` is None without labelled
    windows of both. `guessed` are the parts of the cost that are a guess, `left` is set where a rollback left it."""

    seq: int
    at: str
    run: str
    version: str
    digest: str
    previous: str
    cost: int
    second_slot: int
    gain: Gain | None
    value_known: str
    guessed: tuple[str, ...] = ()
    left: str = ""

    @property
    def verdict(self) -> str:
        """Of the interval as a whole, so that luck is called open."""
        if not self.previous:
            return FIRST
        if self.gain is None:
            return DID_NOT_PAY if self.left else UNKNOWN
        if self.gain.low is None or self.gain.high is None:
            return OPEN
        cost = as_float(self.cost)
        return PAID if self.gain.low > cost else DID_NOT_PAY if self.gain.high < cost else OPEN

    @property
    def why(self) -> str:
        if self.gain is None:
            said = "" if not self.previous else "no labelled window has both versions"
            return "; ".join(filter(None, [self.left and f"rolled back at {self.left[:16]}Z", said]))
        said = f"{self.gain.rows:,} labelled rows of {self.gain.windows} windows"
        return said if self.gain.low is not None else f"{said}: one window has no interval"

    def as_dict(self) -> dict[str, Any]:
        cost, found = as_float(self.cost), self.gain
        net = (
            {"net": None, "net_low": None, "net_high": None}
            if found is None
            else {
                "net": found.saved - cost,
                "net_low": None if found.low is None else found.low - cost,
                "net_high": None if found.high is None else found.high - cost,
            }
        )
        return {
            "version": self.version,
            "previous": self.previous or None,
            "live_at": self.at,
            "run": self.run or None,
            "rolled_back_at": self.left or None,
            "cost": as_float(self.cost),
            "of_it_second_slot": as_float(self.second_slot),
            "worth": found.saved if found else None,
            "worth_low": found.low if found else None,
            "worth_high": found.high if found else None,
            **net,
            "windows": found.windows if found else 0,
            "labelled_rows": found.rows if found else 0,
            "verdict": self.verdict,
            "why": self.why,
            "known": {
                "losses": "measured",
                "value_of_a_unit": self.value_known,
                "cost": "guess" if self.guessed else "measured",
            },
            "events": [self.seq, *(found.events if found else ())],
        }


def deployments(
    ledger: Ledger, terms: Terms, bill: Statement, past: History, windows: Sequence[ScoredWindow], last: int = 0
) -> list[Deployment]:
    """The deployments of the bill's model, oldest first, without those that found their version live already; with `last` only so many of the
    newest. `past` are the model's events, `windows` its scored ones. Raises LedgerError."""
    model = bill.model
    moves = [Moved(*row) for row in rolled_up(ledger, MOVED, model=model)[MOVED]]
    live: list[tuple[Moved, Moved | None]] = []
    before: Moved | None = None
    for move in moves:
        if move.kind == RolloutEnded.KIND and not move.already_live:
            live.append((move, before))
        before = None if move.kind == Undeployed.KIND else move
    served: dict[str, list[ScoredWindow]] = defaultdict(list)
    for window in windows:
        served[window.served].append(window)
    value, known = unit(terms.economics(model), windows)
    runs = _run_costs(ledger, terms, bill, past, [entry for entry, _ in live], last)
    beside = _second_slots(bill.lives, terms.prices)
    newest = {entry.digest: entry.seq for entry, _ in live}
    found = []
    left = _left(moves)
    for entry, previous in live[-last:]:
        old = previous.digest if previous else ""
        own = served[entry.digest] if entry.digest and newest[entry.digest] == entry.seq else []
        second = next((cost for start, cost in reversed(beside[entry.version]) if start <= ms_of(entry.at)), 0)
        found.append(
            Deployment(
                entry.seq,
                entry.at,
                entry.run,
                entry.version,
                entry.digest,
                previous.version if previous else "",
                total(runs[entry.seq]) + second,
                second,
                gain(own, entry.digest, old, value) if entry.digest and old else None,
                known,
                guessed_parts(runs[entry.seq]),
                left.get(entry.seq, ""),
            )
        )
    return found


def _left(moves: Sequence[Moved]) -> dict[int, str]:
    """When a rollback left a deployment, by its number: the rollback was the next move."""
    changes = [move for move in moves if not move.already_live]
    after = zip(changes, changes[1:], strict=False)
    return {move.seq: following.at for move, following in after if following.kind == RolledBack.KIND}


def _run_costs(
    ledger: Ledger, terms: Terms, bill: Statement, past: History, live: Sequence[Moved], last: int
) -> dict[int, list[Line]]:
    """What the runs of the `last` deployments (0 is all) cost, by its number, line by line: the run that registered the version, and the one that
    brought it live."""
    registered: dict[str, list[Happened]] = defaultdict(list)
    for made_it in past.of(VersionRegistered):
        registered[made_it.version].append(made_it)
    of: dict[int, set[str]] = {}
    counted: set[str] = {""}
    for entry in live:
        made = [each.run for each in registered[entry.version] if each.seq < entry.seq]
        of[entry.seq] = {entry.run, *made[-1:]} - counted
        counted |= of[entry.seq]
    of = {entry.seq: of[entry.seq] for entry in live[-last:]}
    shown = {run for runs in of.values() for run in runs}

    def ended(runs: set[str]) -> list[Line]:
        return compute_lines(ledger, terms.prices, model=bill.model, runs=runs) if runs else []

    def all_ended(models: set[str]) -> list[Line]:
        """What an attempt costs on average does not depend on how many deployments are shown."""
        return ended(counted - {""}) if models else []

    lines = [
        *ended(shown),
        *killed_lines(ledger, all_ended, bill.until, model=bill.model, runs=shown),
        *(line for line in bill.lines if line.part in OF_THE_BILL and line.run),
    ]
    by_run: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_run[line.run].append(line)
    return {seq: [line for run in runs for line in by_run[run]] for seq, runs in of.items()}


def _second_slots(lives: Sequence[SlotLife], prices: Prices) -> dict[str, list[tuple[int, int]]]:
    """By version: when its slots started, and what the slots that were there before cost beside each of them."""
    changes = [ms_of(since) for since, _ in prices.periods if since]
    newest: dict[str, SlotLife] = {}
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for new in lives:
        # Of each slot only its newest life can still run.
        beside = [old for old in newest.values() if old.start < new.start < old.end]
        pieces = [(old, span) for old in beside for span in spans(new.start, min(old.end, new.end), changes)]
        cost = whole(sum(span.hours * old.hour(span.prices(prices)) for old, span in pieces))
        found[new.version].append((new.start, cost))
        newest[new.slot] = new
    return found
