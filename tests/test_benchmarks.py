"""A benchmark that has a limit says how it stands to it, and `make bench` fails when one is broken."""

import runpy
import sys

import pytest

from benchmarks import repro, rollouts
from benchmarks.limits import kept
from pipeline.ledger.store import Entry


def test_a_limit_on_counts_and_ratios_binds_and_one_on_seconds_does_not(capsys):
    assert kept("runs, times the ideal", 1.29, 1.3)
    assert not kept("bytes", 2.01, 2)
    assert kept("seconds", 9.0, 3, binding=False)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "limit: runs, times the ideal at most 1.3: 1.29, kept"
    assert said[1].endswith("2.01, BROKEN")
    assert "the machine's fault" in said[2]


def test_a_limit_may_be_one_to_reach(capsys):
    assert kept("times theirs", 50.1, 50, at_least=True)
    assert not kept("times theirs", 49.9, 50, at_least=True)
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "limit: times theirs at least 50: 50.10, kept",
        "limit: times theirs at least 50: 49.90, BROKEN",
    ]


@pytest.mark.parametrize("told", [True, False])
def test_a_broken_limit_fails_them_all(monkeypatch, told):
    monkeypatch.setattr(repro, "main", lambda: told)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "repro"])
    if told:
        runpy.run_module("benchmarks", run_name="__main__")
    else:
        with pytest.raises(SystemExit, match="limits broken: repro"):
            runpy.run_module("benchmarks", run_name="__main__")


def moves(*routes):
    """What the ledger has of routes (second, live, previous, to, mirror), each followed half a second later."""
    for second, live, previous, to, mirror in routes:
        body = {"live": live, "previous": previous, "to": to, "mirror": mirror}
        for kind, at in (("route_moving", "000"), ("route_moved", "500")):
            yield Entry(1, f"2026-01-01T00:00:{second:02d}.{at}Z", "churn", "", "", kind, body, "")


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


@pytest.mark.slow
def test_the_hundred_rollouts_in_small(site):
    """The assertions of `make bench`, each time the tests run: no request failed, none answered by whom it should not."""
    site.set(limits__p99_ms=5000, limits__error_rate=0.05, bake_s=0.5)
    tally, times = rollouts.hundred(type(site.context).here(), site.address, rollouts=4, requests=1000)
    assert len(tally.answers) == tally.sent >= 1000
    assert len(times["to_traffic_s"]) == 4
