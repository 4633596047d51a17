"""Days with far fewer or more requests than their weekday has are found, by limits that the history of quiet logs keeps within the budget."""

import numpy as np
import pytest

from pipeline.monitoring.volume import LIMITS_DAYS, Volume, limits

WEEKDAYS = np.array([1, 1, 1, 1, 1, 0.4, 0.3])
DAYS, HISTORY, QUARTER = 400, 189, 91


def stream(kind, random, days=DAYS):
    """The rows of each day, the oldest first, without a fault."""
    at = np.arange(days)
    week = 1000 * WEEKDAYS[at % 7]
    means = {
        "flat": np.full(days, 1000.0),
        "weekends": week,
        "closed on weekends": 1000.0 * (at % 7 < 5),
        "growth": week / 8 * 1.01**at,
        "decline": week * 8 * 0.99**at,
        "holidays": np.where(random.random(days) < 10 / 365, 0.25, 1) * week,
        "a season": week * (1 + 0.5 * np.sin(at * 2 * np.pi / 365)),
        "few": week / 25,
    }
    return random.poisson(means[kind])


def is_unusual(days):
    """Of the newest of these days, the oldest first."""
    return bool(Volume.of(days[::-1].tolist(), 1, 1).unusual)


KINDS = ("flat", "weekends", "closed on weekends", "growth", "decline", "holidays", "a season", "few")


@pytest.mark.parametrize("kind", KINDS)
def test_quiet_logs_alarm_no_oftener_than_the_budget(kind):
    """Weekends, growth and holidays are usual: at most one alarm in a quarter of daily looks."""
    random = np.random.default_rng(3)
    alarms = looks = 0
    for _ in range(2):
        days = stream(kind, random)
        # Every other day has the same rate and half of the cost.
        for end in range(HISTORY, DAYS, 2):
            alarms += is_unusual(days[end - HISTORY : end])
            looks += 1
    assert alarms <= looks / QUARTER


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("holidays", "few")])
@pytest.mark.parametrize("factor", [0, 0.4, 2.2])
def test_a_missing_day_and_doubled_rows_are_found_at_the_first_look(kind, factor):
    """On a day that has requests at all."""
    days = stream(kind, np.random.default_rng(4), HISTORY + 3)
    assert not is_unusual(days)
    days[-1] = days[-1] * factor
    assert is_unusual(days)


def test_what_the_history_has_oftener_than_is_allowed_is_usual():
    """One day with half of its rows is an alarm, and the fourth in a quarter none; a history of four weeks has no limits."""
    quiet = [1.0] * 90
    assert (limits(quiet, 1).low, limits(quiet, 1).high) == (pytest.approx(2 / 3), 1.5)
    assert limits([0.5] * 3 + quiet, 1).beyond(0.5) is False
    assert limits([0.5] + quiet, 1).beyond(0.5)
    short = limits(quiet[: LIMITS_DAYS - 1], 0)
    assert (short.beyond(0.1), short.beyond(0.11), short.beyond(9.0)) == (True, False, False)
