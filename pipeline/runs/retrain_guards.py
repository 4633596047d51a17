"""What holds a decision back, as the ledger has it: each guard is a line of the receipt, and the same ones hold for each rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipeline.context import Context
from pipeline.ledger.events import DriftChecked, GatesChecked, VersionRegistered
from pipeline.ledger.receipt_events import RetrainDecided
from pipeline.ledger.timeline import live_at, rolled_back_versions
from pipeline.policy.freeze import by_calendar
from pipeline.policy.guards import back_guards, guards
from pipeline.runs import freeze, looks_by_hand, slow_labels, window_losses
from pipeline.settings.models import time_of

if TYPE_CHECKING:
    from pipeline.ledger.decision_events import Backtested
    from pipeline.policy.retraining.base import Known, Policy
    from pipeline.runs.window_losses import LiveHistory
    from pipeline.settings.policy import Policy as Settings

SKEW = "the source's rows do not show the change: it is train/serve skew, and no retrain cures it"


@dataclass(frozen=True)
class SkewSeen:
    """The newest look at the requests says skew; its alarm is of the rows from `began` on, None where nobody knows."""

    began: datetime | None = None

    def explains(self, policy: Policy, known: Known, history: LiveHistory, settings: Settings) -> bool:
        """Whether the policy would not ask for a retrain but for what was seen since the skew began: what a version has lost before is no
        skew, and neither is its age."""
        import numpy as np

        if self.began is None:
            return True
        window = timedelta(days=settings.window_days)
        since = np.array([start + window > self.began for start in history.starts] + [True], dtype=bool)
        losses = np.where(since[:-1], np.nan, known.losses)
        before = replace(known, losses=losses, drifted=known.drifted & ~since)
        return policy.decide(before).action != "retrain"


def skew_seen(context: Context, name: str, as_of: datetime, look: Mapping[str, Any] | None) -> SkewSeen | None:
    """By `look`, or by the newest one in the ledger whose window reaches `as_of`: a run on schedule and a person make none of their own."""
    days = context.params.model(name).monitor.window_days
    looks = [e.event for e in context.ledger.events(DriftChecked, model=name)]
    near = [each for each in looks if as_of - timedelta(days=days) < time_of(each.as_of) <= as_of]
    newest = max(reversed(near), key=lambda each: time_of(each.as_of), default=None)
    verdict = look["verdict"] if look is not None else newest.verdict if newest is not None else ""
    if verdict != "skew":
        return None
    alarm = (newest.alarm or {}) if newest is not None else {}
    return SkewSeen(time_of(alarm["start"]) if alarm.get("start") else None)


def guarded(
    context: Context, run: str, name: str, as_of: datetime, receipt: RetrainDecided, *held: str
) -> RetrainDecided:
    """The receipt, whose decision is to wait where a guard holds it back: a freeze, those of time, and what else is `held` against a retrain."""
    settings = context.params.model(name).policy
    if receipt.says == "retrain":
        trained = _trained(context, name)
        found = guards(settings, name, as_of, _acted(context, run, name, "retrain", as_of), trained)
        found += filter(None, (*held, slow_labels.nothing_to_learn(context, name, as_of, trained)))
    elif receipt.says == "go back":
        found = back_guards(settings, name, as_of, _acted(context, run, name, "go back", as_of))
        if receipt.to_digest in [package.digest for package in rolled_back_versions(context.ledger, name)]:
            found.append(f"version {receipt.version} was rolled back, and comes back by hand alone")
    else:
        return receipt
    if stopped := _frozen(context, name, as_of):
        found.insert(0, f"the model is {stopped}")
    return replace(receipt, decision="wait", guards=found) if found else receipt


def _frozen(context: Context, name: str, as_of: datetime) -> str:
    """By the stop button, which holds what is decided now, or by the calendar at the time of the look; '' when it is not."""
    return freeze.frozen(context, name) or by_calendar(context.params.model(name), name, as_of)


def nothing_moved(
    context: Context, name: str, as_of: datetime, known: Known, backtest: Backtested | None, history: LiveHistory
) -> str:
    """Why nothing speaks for another retrain since the last one, whichever rule asks; '' where something does."""
    from pipeline.policy.retraining import cured, of_model

    model = context.params.model(name)
    settings = model.policy
    prior = of_model.value(settings, backtest, known.cost).prior
    in_vain = _trained_in_vain(context, name, as_of, history)
    learns_days = model.source.window_days
    return cured.not_cured(known, prior, settings.window_days, settings.due_after_days, in_vain, learns_days)


def _trained_in_vain(context: Context, name: str, as_of: datetime, history: LiveHistory) -> int | None:
    """The first window after the last retrain that was asked for and made a version, or one that is worse than the champion; None without
    one. Where another gate stopped it, as for bad data, the next try may do better."""
    made = [e.event.as_of for e in context.ledger.events(VersionRegistered, model=name)]
    for entry in context.ledger.events(GatesChecked, model=name):
        failed = {str(each["gate"]) for each in entry.event.verdicts if not each["passed"]}
        if entry.event.as_of and failed == {"champion"}:
            made.append(entry.event.as_of)
    # A version that was made shows that a look was followed, a person's too.
    asked = set(_acted(context, looks_by_hand.run_of(name), name, "retrain", as_of))
    trained = max((at for at in map(time_of, made) if at in asked), default=None)
    return None if trained is None else sum(start < trained for start in history.starts)


def _acted(context: Context, run: str, name: str, decision: str, as_of: datetime) -> list[datetime]:
    """The as-ofs of the looks before that came to this decision, as a look of this run counts them."""
    looks = looks_by_hand.counted(context.ledger.events(RetrainDecided, model=name), run)
    before = [entry.event for entry in looks if entry.event.decision == decision]
    return [time_of(event.as_of) for event in before if time_of(event.as_of) < as_of]


def _trained(context: Context, name: str) -> datetime | None:
    live = live_at(context.ledger, name)
    kept = window_losses.kept_versions(context.ledger, name, live) if live is not None else []
    return next((each.as_of for each in kept if live is not None and each.package == live.package), None)
