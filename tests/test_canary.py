"""The judge of a canary: valid however often one looks, and not blind."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.params import RolloutLimits
from pipeline.policy import watch
from pipeline.policy.canary import Counted, Evidence, Paired, interval, judge

LIMITS = RolloutLimits(
    error_rate=0.01, p99_ms=250, prediction_rate=0.1, churn=0.2, drift=0.2, alpha=0.05, min_requests=100
)
LOOKS = (150, 500, 1500, 4000, 9000)
SAME = Paired(0, 0, 5000)


NONE = Counted(0, 5000)


def seen(failed=NONE, against=NONE, **other):
    told = {
        "slow": Counted(0, failed.of if failed else 0),
        "champion_slow": Counted(0, against.of) if against else None,
        "refused": Counted(0, failed.of if failed else 0),
        "champion_refused": Counted(0, against.of) if against else None,
        "sides": SAME,
        "distribution": (SAME,) * 9,
        "distinct_rows": 5000,
    }
    return Evidence(failed, against, **{**told, **other})


def one_canary(random, failing, champion_failing, slow, champion_slow):
    """Looks again and again at one simulated canary; its first answer that is no hold."""
    n, counts = 0, np.zeros(4, dtype=int)
    shares = (failing, champion_failing, slow, champion_slow)
    for look in LOOKS:
        counts, n = counts + [random.binomial(look - n, p) for p in shares], look
        failed, against, late, late_against = (Counted(int(c), n) for c in counts)
        paired = Paired(0, 0, n)
        evidence = Evidence(
            failed,
            against,
            late,
            late_against,
            paired,
            (paired,),
            refused=Counted(0, n),
            champion_refused=Counted(0, n),
        )
        if (told := judge(evidence, LIMITS).verdict) != "hold":
            return told
    return "hold"


def test_of_a_thousand_equal_canaries_at_most_the_nominal_share_is_aborted():
    random = np.random.default_rng(1)
    told = [one_canary(random, 0.002, 0.002, 0.001, 0.001) for _ in range(1000)]
    assert told.count("abort") <= LIMITS.alpha * 1000
    assert told.count("promote") >= 500


@pytest.mark.parametrize(("failing", "slow"), [(0.002 + LIMITS.error_rate, 0.0), (0.0, 0.04)])
def test_a_regression_of_the_declared_size_is_caught(failing, slow):
    random = np.random.default_rng(2)
    told = [one_canary(random, failing, 0.002, slow, 0.0) for _ in range(150)]
    assert told.count("abort") >= 0.8 * len(told)
    assert told.count("promote") <= LIMITS.alpha * len(told)


def test_an_equal_canary_is_promoted():
    told = judge(seen(), LIMITS)
    assert told.verdict == "promote"
    assert {look.figure for look in told.looks} == {
        *("error_rate", "refusal_rate", "p99_ms", "prediction_rate", "churn", "drift")
    }


@pytest.mark.parametrize(
    ("evidence", "why"),
    [
        (seen(Counted(0, 20), Counted(0, 9000), sides=Paired(0, 0, 20)), "20 requests, at least 100 wanted"),
        (seen(Counted(99, 99), Counted(0, 9000)), "99 requests, at least 100 wanted"),
        (seen(Counted(99, 99), None, champion_slow=None), "99 requests, at least 100 wanted"),
        (seen(missing="the router gave no metrics"), "the router gave no metrics"),
        (seen(failed=None), "0 requests"),
        (seen(slow=None), "nothing was seen of p99_ms"),
        (seen(sides=None), "nothing was seen of prediction_rate; nothing was seen of churn"),
        (seen(distribution=()), "nothing was seen of drift"),
        (seen(against=Counted(0, 0)), "is possible"),
    ],
)
def test_too_little_is_hold_and_says_why(evidence, why):
    told = judge(evidence, LIMITS)
    assert told.verdict == "hold"
    assert why in told.reason


@pytest.mark.parametrize(
    ("evidence", "figure"),
    [
        (seen(Counted(60, 300), Counted(0, 300)), "error_rate"),
        (seen(Counted(60, 300), None, champion_slow=None), "error_rate"),
        (seen(Counted(400, 5000), Counted(100, 5000), past=True), "error_rate"),
        (seen(Counted(60, 300), Counted(5, 99), past=True, champion_slow=None), "error_rate"),
        (seen(refused=Counted(900, 5000), champion_refused=Counted(300, 5000), past=True), "refusal_rate"),
        (seen(refused=Counted(300, 300), champion_refused=Counted(20, 300)), "refusal_rate"),
        (seen(slow=Counted(400, 5000)), "p99_ms"),
        (seen(sides=Paired(1000, 0, 5000)), "prediction_rate"),
        (seen(sides=Paired(700, 700, 5000)), "churn"),
        (seen(distribution=(SAME, Paired(1500, 0, 5000))), "drift"),
    ],
)
def test_each_figure_alone_can_abort(evidence, figure):
    told = judge(evidence, LIMITS)
    assert told.verdict == "abort"
    assert [look.figure for look in told.looks if look.verdict == "abort"] == [figure]
    assert "over the limit" in told.reason


def test_one_row_asked_again_and_again_aborts_nothing():
    told = judge(seen(distribution=(Paired(5000, 0, 5000),), distinct_rows=1), LIMITS)
    assert told.verdict == "hold"
    assert "but on 1 different rows, 100 wanted" in told.reason


def test_a_champion_that_is_just_as_slow_clears_the_candidate_of_blame():
    assert judge(seen(slow=Counted(400, 5000), champion_slow=Counted(400, 5000)), LIMITS).verdict == "hold"


@pytest.mark.parametrize(
    "usual",
    [
        {"failed": Counted(350, 5000), "against": Counted(500, 9000)},
        {"refused": Counted(1500, 5000), "champion_refused": Counted(2700, 9000)},
        {"slow": Counted(400, 5000), "champion_slow": Counted(800, 9000)},
    ],
)
@pytest.mark.parametrize("past", [True, False])
def test_what_is_usual_here_is_no_fault_of_the_candidate(usual, past):
    """The champion fails, refuses or is slow as often, beside it or before it."""
    assert judge(seen(**usual, past=past), LIMITS).verdict != "abort"


def test_bad_requests_of_clients_abort_no_first_version():
    told = judge(seen(against=None, refused=Counted(2500, 5000), past=True), LIMITS)
    assert told.verdict == "promote"


def test_an_interval_holds_at_all_looks_together():
    """500 walks, looked at after each of 60 batches: the true share is ever outside in at most alpha of them."""
    random = np.random.default_rng(3)
    outside = 0
    for _ in range(500):
        hits = np.cumsum(random.binomial(20, 0.1, size=60))
        bounds = [interval(Counted(int(h), 20 * (i + 1)), 0.1) for i, h in enumerate(hits)]
        outside += any(not low <= 0.1 <= high for low, high in bounds)
    assert outside <= 50


def test_the_watch_keeps_an_equal_champion_and_finds_a_worse_one():
    random = np.random.default_rng(4)
    wrong = 0
    for _ in range(200):
        champion, predecessor = random.beta(2, 8, 2000), random.beta(2, 8, 2000)
        looks = [watch.compare(champion[:n], predecessor[:n], 0.05, 100) for n in (100, 300, 700, 1500, 2000)]
        wrong += any(look.decision == "roll back" for look in looks)
    assert wrong <= 10
    worse = np.clip(random.beta(2, 8, 3000) + 0.05, 0, 1)
    assert watch.compare(worse, random.beta(2, 8, 3000), 0.05, 100).decision == "roll back"
    few = watch.compare(worse[:50], worse[:50], 0.05, 100)
    assert (few.decision, few.reason) == ("keep", "50 rows have labels, at least 100 wanted")
