"""What Traefik's counters say of a step, also when they begin anew in it."""

from __future__ import annotations

import pytest

from pipeline.params import RolloutLimits
from pipeline.policy.canary import Counted, judge
from pipeline.rollout import evidence
from pipeline.rollout.evidence import Observer, Served
from pipeline.rollout.route import Share
from pipeline.rollout.traefik import service_name

NEW = Share("green", "2", "http://127.0.0.1:1")


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """An observer of a first version, and what Traefik says at each of its looks."""

    def look_at(*pages):
        told = iter(pages)
        name = service_name("churn", NEW)
        monkeypatch.setattr(evidence, "served", lambda *_: {name: page} if (page := next(told)) else {})
        observer = Observer(tmp_path, "churn", None, NEW, 250, compare_traffic=False)
        return [observer.look() for _ in pages[1:]]

    return look_at


def test_a_step_counts_what_came_in_it(counted):
    first, second = counted(Served(1000, 5, 7), Served(1000, 5, 7), Served(1100, 6, 9))
    assert first.failed == Counted(0, 0)
    assert (second.failed, second.slow) == (Counted(1, 100), Counted(2, 100))


def test_a_router_that_was_started_again_counts_from_zero(counted):
    """No count is negative, and what was seen before and after both counts."""
    looks = counted(Served(1000, 5, 7), Served(1100, 6, 9), None, Served(40, 1, 0), Served(1200, 2, 3))
    assert [look.failed for look in looks] == [Counted(1, 100), Counted(1, 100), Counted(2, 140), Counted(3, 1300)]
    assert looks[-1].slow == Counted(5, 1300)
    assert all(judge(look, RolloutLimits()).verdict == "hold" for look in looks)
