"""What holds a retrain back whatever the rule says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pipeline.policy.guards import back_guards, guards
from pipeline.settings.policy import Policy

NOW = datetime(2024, 5, 1, tzinfo=UTC)


def days(number):
    return NOW - timedelta(days=number)


@pytest.mark.parametrize(
    ("settings", "asked", "trained", "said"),
    [
        ({}, [], days(60), None),
        ({}, [days(8)], days(60), None),
        (
            {},
            [days(6.9)],
            days(60),
            "a retrain was asked for as of 2024-04-24, and models.m.policy.cool_down_days is 7",
        ),
        ({}, [], days(3), "the live version was trained as of 2024-04-28, and models.m.policy.cool_down_days is 7"),
        ({"cool_down_days": 0}, [days(1)], days(1), None),
        (
            {"most_a_month": 2},
            [days(29), days(15)],
            days(60),
            "2 retrains were asked for in the 30 days before, and models.m.policy.most_a_month is 2",
        ),
        ({"most_a_month": 2}, [days(31), days(15)], days(60), None),
        (
            {"most_a_month": 0},
            [],
            None,
            "0 retrains were asked for in the 30 days before, and models.m.policy.most_a_month is 0",
        ),
    ],
)
def test_a_guard_names_its_key(settings, asked, trained, said):
    """Cool-down since the last one that was asked for or trained, and the most in a month."""
    assert guards(Policy(**settings), "m", NOW, asked, trained) == ([said] if said else [])


def test_a_later_look_does_not_change_an_earlier_ones_answer():
    """What was asked for after the look holds nothing back, so that it can be repeated."""
    assert guards(Policy(), "m", NOW, [NOW, NOW + timedelta(days=1)], days(60)) == []


def test_two_versions_that_are_alike_do_not_take_turns():
    """Within the cool-down of one going back there is no other."""
    said = "a past version was taken again as of 2024-04-28, and models.m.policy.cool_down_days is 7"
    assert back_guards(Policy(), "m", NOW, [days(3)]) == [said]
    assert back_guards(Policy(), "m", NOW, [days(8), NOW]) == []
