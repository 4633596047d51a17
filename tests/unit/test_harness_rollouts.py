"""The check that a load test makes of each answer: the version that gave it had a part in the route then."""

import json

import pytest

from harness import rollouts
from pipeline.ledger.store import Entry


def moves(*routes):
    """What the ledger has of routes (second, live, previous, to, mirror), each followed half a second later."""
    for second, live, previous, to, mirror in routes:
        body = {"live": live, "previous": previous, "to": to, "mirror": mirror}
        for kind, at in (("route_moving", "000"), ("route_moved", "500")):
            yield Entry(1, f"2026-01-01T00:00:{second:02d}.{at}Z", "churn", "", "", kind, json.dumps(body), "")


@pytest.mark.parametrize(
    ("version", "asked", "answered", "right"),
    [
        ("1", 5.0, 5.1, True),
        ("2", 5.0, 5.1, False),
        ("2", 10.1, 10.2, True),
        ("1", 10.6, 10.7, True),  # the warm predecessor
        ("3", 20.6, 20.7, False),  # the shadow
        ("2", 20.6, 20.7, True),
        ("1", 20.4, 20.6, True),  # asked before the route was followed
        ("1", 20.6, 20.7, False),
        ("3", 29.0, 29.5, False),
        ("3", 30.1, 30.2, True),  # the candidate of a canary
        ("9", 30.1, 30.2, False),
        ("1", 0.1, 0.2, False),
    ],
)
def test_an_answer_by_a_version_that_has_no_part_in_the_route_is_found(version, asked, answered, right):
    """An answer is accepted only from a version in a route that could be Traefik's at that time."""
    ledger = list(
        moves(
            (1, "1", None, "1", False),
            (10, "2", "1", "2", False),
            (20, "2", None, "3", True),
            (30, "2", None, "3", False),
        )
    )
    start = rollouts._seconds(ledger[0]) - 1
    answer = (version, start + asked, start + answered)
    assert rollouts.strange([answer], ledger) == ([] if right else [answer])
