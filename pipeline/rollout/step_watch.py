"""The bake of a step: watches that the candidate answers and keeps its limits, until that is proven or refuted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import RolloutError
from pipeline.ledger.rollout_events import RolloutHolding, RolloutStarted
from pipeline.policy.canary import Judgement, judge
from pipeline.rollout import calling_back, probe
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.evidence import Observer
from pipeline.rollout.newest_look import Noting
from pipeline.rollout.replay import Replay
from pipeline.rollout.routing.route import RoutedSlot
from pipeline.settings.rollout import Rollout

PROBE_S = 0.1
# A slot counts as dead after so many probes of a second without an answer: one slow second must not end a rollout, and where
# no user waits for the candidate, ten may pass: a shadow doubles the machine's work, and the comparison itself judges what is slow.
PROBES, PROBES_UNUSED = 2, 10
HOLD_REPORT_S = 30.0
SHADOW, REPLAY = -1, -2

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """`candidate` with `percent` of the traffic (100 for all, SHADOW for copies, REPLAY for logged requests) beside `champion`."""

    model: str
    champion: RoutedSlot | None
    candidate: RoutedSlot
    percent: int

    @property
    def shared(self) -> bool:
        """Whether the candidate is compared with a champion that has traffic, so that going on takes a proof."""
        return self.champion is not None and self.percent != 100

    def __str__(self) -> str:
        return {SHADOW: "in its shadow", REPLAY: "in its replay"}.get(self.percent, f"at {self.percent} %")


def watch(context: RolloutContext, step: Step, settings: Rollout, replay: Replay | None = None) -> Judgement:
    """Returns when the rollout may go on to its next step. Raises RolloutError, with the reason, when it must be undone.

    While both versions get requests, going on needs a proof that all limits are kept. With all traffic moved already it
    needs `bake_s` seconds without a proof that a limit is broken. Failures or refusals that are over a limit and not proven
    hold it there too, for `hold_s` at most; it then goes back when an equal version would hardly show them.

    A `replay` is the step's evidence in place of traffic; it ends with its last request.
    """
    return _Watch(context, step, settings, replay).until_judged()


def shadow(context: RolloutContext, step: Step, settings: Rollout) -> Judgement:
    """The judgement of a shadow: promote, abort, or hold when its deadline passed without either."""
    watch = _Watch(context, step, settings)
    try:
        return watch.until_judged()
    except Stopped as error:
        return error.judgement


class Stopped(RolloutError):
    """The step ends the rollout, because of `judgement`."""

    def __init__(self, subject: str, observed: str, check: str, judgement: Judgement) -> None:
        super().__init__(subject, observed, check)
        self.judgement = judgement


def judge_of(context: RolloutContext, step: Step, settings: Rollout) -> Callable[[], Judgement]:
    """A judge of the step; each call is one look at all that Traefik and the prediction log have counted since now."""
    observer = Observer(
        context.registry,
        context.router,
        step.model,
        step.champion,
        step.candidate,
        settings.limits.p99_ms,
        compare_traffic=step.shared,
        compare_predictions=settings.limits.compare_predictions,
        shadow=step.percent == SHADOW,
        personal=settings.serving.personal,
    )
    return lambda: judge(observer.look(), settings.limits)


class _Watch:
    def __init__(self, context: RolloutContext, step: Step, settings: Rollout, replay: Replay | None = None) -> None:
        self._context, self._step, self._settings, self._replay = context, step, settings, replay
        self._since_seq = _last_seq(context, step.model)
        self._reported_at = 0.0
        self._noting = Noting(context.home, step.model, self._since_seq, step.candidate.version, step.percent)
        self._judge = (context.judge or judge_of)(context, step, settings) if replay is None else self._judge_replay

    def until_judged(self) -> Judgement:
        start = time.monotonic()
        while True:
            self._check_answers()
            passed = time.monotonic() - start
            # Judged at the very end of the bake too: what failed in its last half second counts.
            judged = self._judge()
            self._noting.note(judged)
            if judged.verdict == "abort":
                keeps = "has all traffic again" if self._replay is None else "keeps all traffic"
                raise self._stopped(judged.reason, f"the champion {keeps}", judged)
            if passed >= self._settings.bake_s and self._may_go_on(judged, passed):
                # The slot may have ended during the last look.
                self._check_answers()
                if judged.warning:
                    logger.warning("%s goes on: %s", self._subject, judged.warning)
                return judged
            if self._replay is not None and self._replay.done and judged.verdict != "promote":
                why = f"held after all {self._replay.sent:,} logged requests, and the champion keeps all traffic"
                check = "set a longer rollout.replay_days, wider rollout.limits, or null (off) for one of them"
                raise self._stopped(f"{why}: {judged.reason}", check, judged)
            if passed >= self._settings.hold_s:
                why = f"held for {passed:.0f} s and goes back to the champion: {judged.reason}"
                raise self._stopped(why, self._after_a_hold(), judged)
            if passed >= self._settings.bake_s:
                self._report_hold(judged)
            self._wait(min(self._context.look_s, self._settings.bake_s or self._context.look_s))

    def _after_a_hold(self) -> str:
        if self._replay is not None:
            return "set a longer rollout.hold_s, or wider rollout.limits"
        replay = ", or use strategy replay" if self._step.shared else ""
        return f"send it more traffic, or set wider rollout.limits{replay}"

    def _judge_replay(self) -> Judgement:
        assert self._replay is not None
        return judge(self._replay.look(), self._settings.limits)

    def _may_go_on(self, judged: Judgement, passed: float) -> bool:
        if judged.verdict == "promote":
            return True
        if self._step.shared:
            return False
        if not judged.suspicion:
            return True
        return passed >= self._settings.hold_s and not judged.improbable

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(PROBE_S, left))
            self._check_answers()
        self._context.check_lease()
        step = self._step
        calling_back.check(self._context.ledger, step.model, step.candidate.version, self._since_seq)

    def _check_answers(self) -> None:
        """Raises RolloutError when the candidate does not answer."""
        candidate = self._step.candidate
        for _ in range(PROBES if self._step.percent > 0 else PROBES_UNUSED):
            if probe.answering_version(candidate.address, timeout_s=1) == candidate.version:
                return
        raise RolloutError(
            f"slot {self._step.model} {candidate.slot}",
            "stopped answering during its bake",
            "look at its output, in the slots/ folder or in `docker logs`",
        )

    def _report_hold(self, judged: Judgement) -> None:
        if time.monotonic() - self._reported_at > HOLD_REPORT_S:
            self._reported_at = time.monotonic()
            model, version = self._step.model, self._step.candidate.version
            logger.info("%s version %s %s: holds; %s", model, version, self._step, judged.reason)
            holding = RolloutHolding(version=version, percent=self._step.percent, reason=judged.reason)
            self._context.record(holding, model)

    @property
    def _subject(self) -> str:
        return f"version {self._step.candidate.version} of {self._step.model} {self._step}"

    def _stopped(self, observed: str, check: str, judged: Judgement) -> Stopped:
        return Stopped(self._subject, observed, check, judged)


def check_called_back(context: RolloutContext, model: str, version: str) -> None:
    """Raises RolloutError when the rollout that is going on was called back, so that no more traffic moves."""
    calling_back.check(context.ledger, model, version, _last_seq(context, model))


def _last_seq(context: RolloutContext, model: str) -> int:
    events = context.ledger.events(RolloutStarted, model=model)
    return events[-1].seq if events else 0
