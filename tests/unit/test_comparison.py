"""Policies compared on a past: what it can tell, and what it cannot."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.policy.economics import Figure, Worth
from pipeline.policy.retraining import rules
from pipeline.policy.retraining.base import History, Policy
from pipeline.policy.retraining.comparison import (
    ORACLE,
    Comparison,
    compare,
    excess_by_age,
    part,
)
from pipeline.policy.retraining.recommendation import recommendation

DAYS = 7.0


def history(slope: float, noise: float = 0.0, windows: int = 40, delay: int = 0) -> History:
    """A version loses `slope` more for each window of its age, beside what each window has of its own."""
    drawn = np.random.default_rng(3)
    age = np.arange(windows) - np.arange(windows)[:, None]
    losses = 1 + slope * age + drawn.normal(0, 0.05, windows) + drawn.normal(0, noise, (windows, windows))
    losses[age < 0] = np.nan
    return History(losses, np.ones(windows), delay, np.zeros(windows, bool))


def worth(value: Figure) -> Worth:
    figure = Figure(1.0, "yours", "")
    return Worth("brier", "EUR", value, Figure(100, "measured", ""), figure, figure, figure)


def test_a_model_that_ages_is_retrained_by_the_tuned_schedule() -> None:
    """Its interval is the root of twice the cost by the slope, where the loss of waiting is that of a retrain."""
    found = compare(history(0.1), cost=0.8)
    assert found.schedule == 4
    assert (found.best.policy, found.tells, found.first) == (rules.TUNED, True, 12)
    assert found.best.against_never.low > 0
    assert found.oracle.policy == ORACLE
    assert found.oracle.total <= found.best.total
    said = recommendation(found, worth(Figure(1, "yours", "")), DAYS)
    assert said.startswith("use tuned schedule: it saves ")
    assert "guess" not in said


def test_a_model_that_does_not_age_is_left_alone() -> None:
    """Every retrain costs and none saves: never, and the history proves it."""
    found = compare(history(0.0), cost=0.5, policies=lambda before, cost: [rules.NEVER, rules.ALWAYS])
    assert found.best.policy == rules.NEVER.name
    assert found.of("always").against_never.high < 0
    said = recommendation(found, worth(Figure(0.1, "guess", "nobody")), DAYS)
    assert said.endswith("; guesses in it: economics.value")


def test_of_equally_cheap_policies_the_one_that_looks_is_recommended() -> None:
    """Where each window's retrain pays, `value` makes the same ones as always, and would stop when they no longer pay."""
    found = compare(history(0.1), cost=0.01)
    assert found.of("value").total == found.of("always").total == found.oracle.total
    assert (found.best.policy, found.tells) == ("value", True)


def test_a_history_that_proves_nothing_says_so() -> None:
    """What was cheapest by chance is not recommended."""
    found = compare(history(0.002, noise=0.6), cost=0.01)
    assert not found.tells
    assert "history cannot tell" in recommendation(found, worth(Figure(1, "yours", "")), DAYS)


def test_policies_learn_from_the_first_part_alone() -> None:
    """Nothing of the windows that are compared reaches the policies' numbers."""
    past, seen = history(0.1), []

    def policies(before: History, cost: float) -> list[Policy]:
        seen.append(before)
        return [rules.NEVER]

    found = compare(past, 0.8, policies)
    assert [before.windows for before in seen] == [found.first]
    assert np.array_equal(seen[0].losses, part(past, 12).losses, equal_nan=True)


def test_the_costs_of_the_windows_are_those_of_the_replay() -> None:
    """Together they are the total, retrains too, and what is saved is their difference."""
    found = compare(history(0.1, noise=0.1), cost=0.8)
    assert isinstance(found, Comparison)
    for each in (*found.policies, found.oracle):
        assert each.costs.sum() == pytest.approx(each.total)
        assert each.against_never.value == pytest.approx(found.of(rules.NEVER.name).total - each.total)
        assert each.against_never.low <= each.against_never.value <= each.against_never.high


def test_the_excess_of_an_age_is_against_a_new_version_on_the_same_rows() -> None:
    """What the windows have of their own cancels; a version that could not be trained counts in no pair."""
    past = history(0.1, windows=6)
    past.losses[2] = np.nan
    found = excess_by_age(past)
    assert [age for age, _, _ in found] == [1, 2, 3, 4, 5]
    assert [excess for _, excess, _ in found] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert [pairs for _, _, pairs in found] == [3, 2, 2, 2, 1]
