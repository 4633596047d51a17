"""How long a candidate that does not answer is waited for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipeline.errors import RolloutError
from pipeline.policy.canary import Judgement
from pipeline.rollout import probe, step_watch
from pipeline.rollout.routing.route import RoutedSlot
from pipeline.rollout.step_watch import SHADOW, Step
from pipeline.settings.rollout import Rollout


def watched(monkeypatch, tmp_path, percent, *, silent):
    """The judgement of a step whose candidate leaves `silent` probes unanswered, after its first answer."""
    answers = iter(["2", *[None] * silent])
    monkeypatch.setattr(probe, "answering_version", lambda address, timeout_s: next(answers, "2"))
    context = SimpleNamespace(
        home=tmp_path,
        judge=lambda *_: lambda: Judgement("promote", "all is well"),
        ledger=SimpleNamespace(events=lambda *_, **__: []),
        look_s=0.0,
    )
    champion, candidate = RoutedSlot("blue", "1", "http://blue"), RoutedSlot("green", "2", "http://green")
    settings = Rollout().model_copy(update={"bake_s": 0.0})
    return step_watch.watch(context, Step("churn", champion, candidate, percent), settings)


@pytest.mark.parametrize(("percent", "silent"), [(10, 1), (SHADOW, 9)])
def test_a_slow_second_of_a_candidate_ends_nothing(monkeypatch, tmp_path, percent, silent):
    """A candidate is waited for, and longer where no user's request waits for its answer."""
    assert watched(monkeypatch, tmp_path, percent, silent=silent).verdict == "promote"


@pytest.mark.parametrize(("percent", "silent"), [(10, 2), (100, 2), (SHADOW, 10)])
def test_a_candidate_that_goes_on_saying_nothing_has_died(monkeypatch, tmp_path, percent, silent):
    """A candidate that leaves its last probe unanswered too ends the step."""
    with pytest.raises(RolloutError, match="stopped answering during its bake"):
        watched(monkeypatch, tmp_path, percent, silent=silent)
