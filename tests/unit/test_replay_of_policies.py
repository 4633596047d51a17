"""A policy's cost on a loss matrix, beside the cheapest in hindsight."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pipeline.policy.retraining.base import Decision, History, Known
from pipeline.policy.retraining.replay import oracle, replay


class At:
    """Retrains at the given windows, and goes back to the first version at others."""

    name = "at"

    def __init__(self, *windows: int, back: tuple[int, ...] = ()) -> None:
        self.windows, self.back = windows, back
        self.seen: list[Known] = []

    def decide(self, known: Known) -> Decision:
        self.seen.append(known)
        action = "retrain" if known.now in self.windows else "go back" if known.now in self.back else "wait"
        return Decision(action, "", "", 0, 0, version=0)


def history(windows: int = 7, delay: int = 1, seed: int = 1) -> History:
    drawn = np.random.default_rng(seed)
    losses = np.triu(drawn.uniform(0.1, 1, (windows, windows)))
    losses[np.tril_indices(windows, -1)] = np.nan
    return History(losses, drawn.uniform(0.5, 1.5, windows), delay, np.zeros(windows, bool))


def test_a_replay_adds_up_the_versions_that_answered() -> None:
    """Each window counts the loss of the version that answered it, by its weight, and each retrain its cost."""
    past = history(5)
    found = replay(past, At(2, back=(4,)), cost=3.0)
    answered = [(0, 0), (0, 1), (2, 2), (2, 3), (0, 4)]
    assert found.loss == pytest.approx(sum(past.losses[v, w] * past.weights[w] for v, w in answered))
    assert found.total == pytest.approx(found.loss + 3.0)
    assert (found.retrained, found.went_back) == ((2,), (4,))


def test_a_look_sees_no_label_before_its_time() -> None:
    """At the look k a policy knows the losses of windows up to k - 1 - delay, of kept versions that are old enough, and no others."""
    past = history(6, delay=2)
    policy = At(2)
    replay(past, policy, cost=1.0)
    for known in policy.seen:
        labelled = ~np.isnan(known.losses)
        versions, windows = np.nonzero(labelled)
        assert (windows <= known.now - 3).all()
        assert (known.born[versions] <= windows).all()
        assert known.losses[labelled] == pytest.approx(past.losses[known.born[versions], windows])


@pytest.mark.parametrize("cost", [0.0, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_oracle_is_the_cheapest_of_all_schedules(cost: float, seed: int) -> None:
    """No choice of retrains is cheaper than the oracle's, tried one by one."""
    past = history(7, seed=seed)
    every = itertools.chain.from_iterable(itertools.combinations(range(1, 7), n) for n in range(7))
    cheapest = min(replay(past, At(*at), cost).total for at in every)
    assert oracle(past, cost).total == pytest.approx(cheapest)


def test_a_version_that_could_not_be_trained_is_none() -> None:
    """A window whose version has no losses is retrained at by nobody, the oracle neither."""
    past = history(5)
    past.losses[2] = np.nan
    assert replay(past, At(2), 0.0).retrained == ()
    assert 2 not in oracle(past, 0.0).retrained
