"""A few of the hundred rollouts that `make bench` makes, with the same checks."""

import pytest

from harness import rollouts
from tests.support.endpoint import one_engine


@one_engine
def test_the_hundred_rollouts_in_small(endpoint):
    """Rollouts and a shadow under load fail no request, and each answer comes from a version in the route."""
    endpoint.set(limits__p99_ms=None, limits__error_rate=0.05, bake_s=0.5)
    tally, times = rollouts.hundred(type(endpoint.context).here(), endpoint.address, rollouts=3, requests=600, pace=200)
    assert len(tally.answers) == tally.sent >= 600
    assert len(times["to_traffic_s"]) == 3


@pytest.mark.parametrize("endpoint", ["docker"], indirect=True)
def test_the_twenty_kills_in_small(endpoint):
    """A deploy that is killed at any moment is brought to its end without a command, and no request fails."""
    endpoint.set(limits__p99_ms=5000, limits__error_rate=0.05, bake_s=0.2)
    _, recoveries = rollouts.killed_deploys(type(endpoint.context).here(), endpoint.address, kills=2, pace=200)
    assert len(recoveries) == 2
