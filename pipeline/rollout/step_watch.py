"""Watches a step of a rollout: is the slot there, does it hold its limits, and is that proven yet?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import RolloutError
from pipeline.ledger.rollout_events import AbortAsked, RolloutHolding, RolloutStarted
from pipeline.policy.canary import Judgement, judge
from pipeline.rollout import probe
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.evidence import Observer
from pipeline.rollout.routing.route import Share
from pipeline.settings.models import Rollout

PROBE_S = 0.1
# A probe that got no answer in time is asked again: one slow second is no death.
PROBES = 2
SAY_AGAIN_S = 30.0
SHADOW = -1


@dataclass(frozen=True)
class Step:
    """What is watched: `candidate` with `percent` of the traffic (100 for all, SHADOW for copies) against `champion`."""

    model: str
    champion: Share | None
    candidate: Share
    percent: int

    @property
    def shared(self) -> bool:
        """Whether both versions answer now, so that they can be compared."""
        return self.champion is not None and self.percent != 100

    def __str__(self) -> str:
        return "in its shadow" if self.percent == SHADOW else f"at {self.percent} %"


def watch(context: RolloutContext, step: Step, settings: Rollout) -> Judgement:
    """Returns when the step may be left forwards. Raises RolloutError when it must be left backwards, and why.

    While both versions answer, going forwards takes a proof; with all traffic moved already, the absence of one against
    it for the time of the bake.
    """
    return _Watch(context, step, settings).until_told()


def shadow(context: RolloutContext, step: Step, settings: Rollout) -> Judgement:
    """The judgement of a shadow: promote, abort, or what held it until its deadline."""
    watching = _Watch(context, step, settings)
    try:
        return watching.until_told()
    except Stopped as error:
        return error.judgement


class Stopped(RolloutError):
    """A step that must not be left forwards, with the judgement that said so."""

    def __init__(self, subject: str, observed: str, check: str, judgement: Judgement) -> None:
        super().__init__(subject, observed, check)
        self.judgement = judgement


def judge_of(context: RolloutContext, step: Step, settings: Rollout) -> Callable[[], Judgement]:
    """Judges the step by what Traefik counted and the prediction log holds since now; each call is one look."""
    observer = Observer(
        context.registry,
        context.router,
        step.model,
        step.champion,
        step.candidate,
        settings.limits.p99_ms,
        compare_traffic=step.shared,
        shadow=step.percent == SHADOW,
        personal=settings.serving.personal,
    )
    return lambda: judge(observer.look(), settings.limits)


class _Watch:
    def __init__(self, context: RolloutContext, step: Step, settings: Rollout) -> None:
        self._context, self._step, self._settings = context, step, settings
        self._since_seq = _last_seq(context, step.model)
        self._told_at = 0.0
        self._judge = (context.judge or judge_of)(context, step, settings)

    def until_told(self) -> Judgement:
        start = time.monotonic()
        while True:
            self._refuse_dead()
            passed = time.monotonic() - start
            # At the very end of the bake too: what failed in its last half second counts.
            judged = self._judge()
            if judged.verdict == "abort":
                raise self._stopped(judged.reason, "the champion has all traffic again", judged)
            if passed >= self._settings.bake_s and (judged.verdict == "promote" or not self._step.shared):
                # It may have ended while the last look was taken.
                self._refuse_dead()
                return judged
            if passed >= self._settings.hold_s:
                why = f"held for {passed:.0f} s and goes back to the champion: {judged.reason}"
                raise self._stopped(why, "send it more traffic, or set rollout.limits wider", judged)
            if self._step.shared and passed >= self._settings.bake_s:
                self._say_why_it_holds(judged)
            self._wait(min(self._context.look_s, self._settings.bake_s or self._context.look_s))

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(PROBE_S, left))
            self._refuse_dead()
        self._context.check()
        if self._context.ledger.events(AbortAsked, model=self._step.model, after=self._since_seq):
            raise RolloutError(f"model {self._step.model}", "was called back by hand", "look at its timeline")

    def _refuse_dead(self) -> None:
        share = self._step.candidate
        for _ in range(PROBES):
            if probe.answering_version(share.address, timeout_s=1) == share.version:
                return
        raise RolloutError(
            f"slot {self._step.model} {share.slot}", "stopped answering during its bake", "its output is in slots/"
        )

    def _say_why_it_holds(self, judged: Judgement) -> None:
        if time.monotonic() - self._told_at > SAY_AGAIN_S:
            self._told_at = time.monotonic()
            print(f"{self._step.model} version {self._step.candidate.version} {self._step}: holds; {judged.reason}")
            holding = RolloutHolding(
                version=self._step.candidate.version, percent=self._step.percent, reason=judged.reason
            )
            self._context.record(holding, self._step.model)

    def _stopped(self, observed: str, check: str, judged: Judgement) -> Stopped:
        subject = f"version {self._step.candidate.version} of {self._step.model} {self._step}"
        return Stopped(subject, observed, check, judged)


def _last_seq(context: RolloutContext, model: str) -> int:
    events = context.ledger.events(RolloutStarted, model=model)
    return events[-1].seq if events else 0
