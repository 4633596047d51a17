"""How well deployments go: DORA's four figures and what else the study of `baseline` claims, from the ledger.

Lead time, frequency, failed share and time to restore are as in Forsgren, Humble and Kim, *Accelerate*, 2018. The change that a model's
lead time counts from is the as-of: what happened after it, the version does not know. A run as of a time long ago, as of a replayed past,
has a lead time of years; so the time from the run's start stands beside it.
"""

from __future__ import annotations

import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from pipeline.accounts import published
from pipeline.accounts.figures import Figure
from pipeline.accounts.lines import PEOPLE, Known, ms_of
from pipeline.accounts.money import as_float
from pipeline.accounts.pauses import without_pauses
from pipeline.accounts.statement import Statement
from pipeline.ledger.events import Event, RunOpened, VersionRegistered
from pipeline.ledger.rollout_events import RollbackStarted, RolledBack, RolloutEnded, RolloutFailed, Undeployed
from pipeline.ledger.rollup_parts import ALARMS, HAPPENED, STOPPED
from pipeline.ledger.rollups import rolled_up
from pipeline.ledger.store import Ledger

DAY_MS, WEEK_MS = 86_400_000, 7 * 86_400_000


class Happened(NamedTuple):
    """An event of a rollout or a run with the fields that the figures need; `at` in milliseconds since 1970."""

    model: str
    seq: int
    at: int
    kind: str
    run: str
    version: str
    left: str
    to_traffic_s: float | None
    as_of: str
    already_live: bool
    rolled_back: bool = False


@dataclass(frozen=True)
class History:
    """The events of one model or of all, in their order."""

    events: Sequence[Happened]
    until: int

    def of(self, *kinds: type[Event]) -> list[Happened]:
        names = {kind.KIND for kind in kinds}
        return [each for each in self.events if each.kind in names]

    @cached_property
    def live(self) -> list[Happened]:
        """The deployments: rollouts that moved all traffic."""
        return [each for each in self.of(RolloutEnded) if not each.already_live]

    @cached_property
    def undone(self) -> list[Happened]:
        """The rollouts that failed before all traffic had moved: after it, the rollback stands for the failure."""
        return [each for each in self.of(RolloutFailed) if not each.rolled_back]

    @cached_property
    def _by_kind(self) -> dict[tuple[str, str], list[Happened]]:
        found: dict[tuple[str, str], list[Happened]] = {}
        for each in self.events:
            # What was live already did not go live then.
            if not each.already_live:
                found.setdefault((each.kind, each.model), []).append(each)
        return found

    def before(self, event: Happened, kind: type[Event], version: str = "") -> Happened | None:
        """The newest event of that kind, of the same model and of `version` ('' is any), before `event`."""
        same = self._by_kind.get((kind.KIND, event.model), [])
        place = bisect_left(same, event.seq, key=lambda each: each.seq)
        return next(
            (each for each in map(same.__getitem__, range(place - 1, -1, -1)) if version in ("", each.version)), None
        )

    def after(self, model: str, seq: int) -> Happened | None:
        """The first deployment of a model after the event number `seq`."""
        same = self._by_kind.get((RolloutEnded.KIND, model), [])
        place = bisect_right(same, seq, key=lambda each: each.seq)
        return next(iter(same[place : place + 1]), None)


@without_pauses()
def history(ledger: Ledger, model: str, until: str) -> History:
    """What `model`, '' for all, did up to `until` (ISO 8601, UTC), from the ledger's roll-ups and the events since."""
    rows = rolled_up(ledger, HAPPENED, model=model)[HAPPENED]
    return History([Happened(*row) for row in rows], ms_of(until))


def deployment_figures(ledger: Ledger, bill: Statement) -> list[Figure]:
    """The figures of the account's model, or of all models. Raises LedgerError."""
    past = history(ledger, bill.model, bill.until)
    return [
        *_dora(past),
        _rollback(past),
        _to_traffic(past),
        _staleness(past),
        _engineer_minutes(past, bill),
        *_incidents(ledger, past, bill.model),
        *_drift(ledger, past, bill.model),
        _lifecycle(past, bill),
    ]


def _dora(past: History) -> list[Figure]:
    live = past.live
    known, started = [], []
    opened = {each.run: each.at for each in reversed(past.of(RunOpened)) if each.run}
    for each in live:
        if (made := past.before(each, VersionRegistered, each.version)) is not None:
            if made.as_of:
                known.append((each.seq, (each.at - ms_of(made.as_of)) / 1000))
            if made.run in opened:
                started.append((each.seq, (each.at - opened[made.run]) / 1000))
    weeks = (past.until - live[0].at) / WEEK_MS if live else 0.0
    failed, back = past.undone, past.of(RolledBack)
    tried = len(live) + len(past.of(RolloutFailed))
    share = (len(failed) + len(back)) / tried if tried else None
    restored = [
        (each.seq, (each.at - gone.at) / 1000) for each in back if (gone := past.before(each, RolloutEnded, each.left))
    ]
    return [
        _median("lead_time_s", "s", "median from the as-of to live", known),
        _median("run_to_live_s", "s", "median from the run's start to live", started, study=False),
        Figure(
            "deployments_a_week", len(live) / max(weeks, 1.0), "a week", "measured",
            f"{len(live)} deployments in {weeks:.1f} weeks; less than a week counts as one", [each.seq for each in live],
        ),
        Figure(
            "failed_share", share, "share", "measured",
            f"{len(failed)} rollouts that failed and {len(back)} rollbacks, of {tried} rollouts",
            [each.seq for each in (*failed, *back)], published.DEPLOYMENTS["failed_share"],
        ),
        _median("restore_s", "s", "median from a version's going live to the end of its rollback", restored, study=False),
    ]  # fmt: skip


def _median(name: str, unit: str, how: str, found: Sequence[tuple[int, float]], study: bool = True) -> Figure:
    value = statistics.median(each for _, each in found) if found else None
    claims = published.DEPLOYMENTS.get(name) if study else None
    return Figure(name, value, unit, "measured", f"{how}, of {len(found)}", [seq for seq, _ in found], claims)


def _rollback(past: History) -> Figure:
    found = []
    for each in past.of(RolledBack):
        began = past.before(each, RollbackStarted)
        if began is not None:
            found.append((each.seq, (each.at - began.at) / 1000))
    return _median("rollback_s", "s", "median from the rollback's start to its end", found)


def _to_traffic(past: History) -> Figure:
    found = [(each.seq, each.to_traffic_s) for each in past.live if each.to_traffic_s is not None]
    return _median("deploy_s", "s", "median from the rollout's start until all traffic had moved", found)


def _staleness(past: History) -> Figure:
    """The age of what was live when it was replaced; of what is live, today's."""
    found: list[tuple[int, float]] = []
    now: dict[str, tuple[int, int]] = {}
    as_of = {(each.model, each.version): each.as_of for each in past.of(VersionRegistered)}
    for each in past.of(RolloutEnded, RolledBack, Undeployed):
        if each.already_live:
            continue
        before = now.pop(each.model, None)
        if before is not None:
            found.append((before[0], (each.at - before[1]) / DAY_MS))
        learnt = as_of.get((each.model, each.version))
        if each.kind != Undeployed.KIND and learnt:
            now[each.model] = (each.seq, ms_of(learnt))
    found += [(seq, (past.until - learnt) / DAY_MS) for seq, learnt in now.values()]
    return _median("staleness_days", "days", "median age, from the as-of, of a live version at its end or today", found)


def _engineer_minutes(past: History, bill: Statement) -> Figure:
    people = [line for line in bill.lines if line.part == PEOPLE]
    minutes, count = float(sum(line.quantity for line in people)), len(past.live)
    known: Known = "guess" if any(line.counted == "guess" for line in people) else "yours"
    how = f"{minutes:g} minutes of people over {count} deployments"
    value = minutes / count if count else None
    return Figure(
        "engineer_minutes",
        value,
        "minutes",
        known,
        how,
        [each.seq for each in past.live],
        published.DEPLOYMENTS["engineer_minutes"],
    )


def _incidents(ledger: Ledger, past: History, model: str) -> list[Figure]:
    gates = {run: seq for _, seq, run in rolled_up(ledger, STOPPED, model=model)[STOPPED]}
    undone, back = past.undone, past.of(RolledBack)
    return [
        Figure("stopped_by_a_gate", len(gates), "runs", "measured", "runs whose gates failed: no request was touched", sorted(gates.values())),
        Figure("stopped_by_a_rollout", len(undone), "rollouts", "measured", "rollouts that were undone before all traffic had moved", [each.seq for each in undone]),
        Figure("stopped_by_a_rollback", len(back), "rollbacks", "measured", "versions that had all traffic and were rolled back", [each.seq for each in back]),
    ]  # fmt: skip


def _drift(ledger: Ledger, past: History, model: str) -> list[Figure]:
    """Of each alarm: from the start of the window that raised it, and until a version that was registered after it is live."""
    first: dict[tuple[str, str], tuple[int, int, str]] = {}
    for name, seq, at, since, start in rolled_up(ledger, ALARMS, model=model)[ALARMS]:
        first.setdefault((name, since), (seq, at, start))
    latency = [(seq, (ms_of(since) - ms_of(start)) / 60_000) for (_, since), (seq, _, start) in first.items()]
    recovered = [
        (live.seq, (live.at - at) / 60_000)
        for (name, _), (seq, at, _) in first.items()
        if (live := past.after(name, seq)) is not None
    ]
    how = "median from the start of the window that raised an alarm to the look's as-of: the change came in between, so at most this"
    return [
        _median("drift_latency_min", "minutes", how, latency, study=False),
        _median("recovery_min", "minutes", "median from an alarm to the next version live", recovered, study=False),
    ]


def _lifecycle(past: History, bill: Statement) -> Figure:
    count = len(past.live)
    how = f"all that the bill has, {as_float(bill.total):,.2f} {bill.currency}, over {count} deployments"
    value = as_float(bill.total) / count if count else None
    known: Known = "guess" if any(line.known == "guess" for line in bill.lines) else "measured"
    return Figure("lifecycle_cost", value, bill.currency, known, how, [each.seq for each in past.live])


def platforms(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """The four platforms' published figures, and ours in the same units."""
    ours = {figure.name: figure.value for figure in figures}
    run = ours["run_to_live_s"]
    rows = [
        {
            "platform": "this ledger",
            "known": "measured",
            "deploy_s": ours["deploy_s"],
            "retrain_min": run / 60 if run is not None else None,
            "drift_latency_min": ours["drift_latency_min"],
            "recovery_min": ours["recovery_min"],
            "cost_of_a_lifecycle": ours["lifecycle_cost"],
        }
    ]
    return rows + [
        {
            "platform": each.name,
            "known": "claimed",
            "deploy_s": each.deploy_s,
            "retrain_min": each.retrain_min,
            "drift_latency_min": each.drift_latency_min,
            "recovery_min": each.recovery_min,
            "cost_of_a_lifecycle": each.lifecycle_usd,
        }
        for each in published.PLATFORMS
    ]
