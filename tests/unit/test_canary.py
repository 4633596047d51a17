"""The judge of a canary: valid however often one looks, and not blind."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest

from pipeline.policy import canary, confidence, watch
from pipeline.policy.canary import Evidence, Paired, judge
from pipeline.policy.confidence import Counted, interval
from pipeline.settings.rollout import RolloutLimits
from tests.support.required import EXHAUSTIVE

LIMITS = RolloutLimits(
    error_rate=0.01, p99_ms=250, prediction_rate=0.1, churn=0.2, drift=0.2, alpha=0.05, min_requests=100
)
SAME = Paired(0, 0, 5000)


NONE = Counted(0, 5000)


def seen(failed=NONE, against=NONE, **other):
    figures = {
        "slow": Counted(0, failed.of if failed else 0),
        "champion_slow": Counted(0, against.of) if against else None,
        "refused": Counted(0, failed.of if failed else 0),
        "champion_refused": Counted(0, against.of) if against else None,
        "sides": SAME,
        "distribution": (SAME,) * 9,
        "distinct_rows": 5000,
    }
    return Evidence(failed, against, **{**figures, **other})


def once(sides):
    """The predictions of as many rows as `sides` has, each row another one."""
    same = (Paired(0, 0, sides.of),) * 9
    different = {"distinct_rows": sides.of, "distinct_sides": sides, "distinct_distribution": same}
    return {"sides": sides, "distribution": same, **different}


LOOKS = np.unique(np.geomspace(100, 9000, 52).astype(int))
CUTS = np.quantile(np.random.default_rng(0).beta(2, 3, 20_000), np.linspace(0.1, 0.9, 9))
USUAL = {"failed": 0.002, "refused": 0.002, "slow": 0.012}


BOUNDS = {name: functools.cache(getattr(confidence, name)) for name in ("interval", "difference")}


@pytest.fixture
def _once_each(monkeypatch):
    """Equal counts have equal bounds: each pair is worked out once in this file, so that a thousand canaries take seconds."""
    for name, bounds in BOUNDS.items():
        monkeypatch.setattr(canary, name, bounds)


def scores(random, rows, noise=0.02):
    """(champion, candidate) of equal versions: what both mean, and to each its own noise."""
    meant = random.beta(2, 3, rows)
    return tuple(np.clip(meant + random.normal(0, noise, rows), 0, 1) for _ in range(2))


def one_canary(random, limits=LIMITS, spoil=lambda scores: scores, **worse):
    """Yields the judgement of one simulated canary at each look; `worse` shares and `spoil`ed scores are the candidate's."""
    rows = LOOKS[-1]
    counts = {}
    for key, usual in USUAL.items():
        counts[key] = np.cumsum(random.random(rows) < worse.get(key, usual))
        counts[f"champion_{key}"] = np.cumsum(random.random(rows) < usual)
    champion, candidate = scores(random, rows)
    candidate = spoil(candidate)
    sides = []
    for cut in (0.5, *CUTS):
        before, now = champion > cut, candidate > cut
        sides.append((np.cumsum(now & ~before), np.cumsum(before & ~now)))
    for n in LOOKS:
        counted = {key: Counted(int(total[n - 1]), int(n)) for key, total in counts.items()}
        first, *others = (Paired(int(up[n - 1]), int(down[n - 1]), int(n)) for up, down in sides)
        yield judge(Evidence(**counted, sides=first, distribution=tuple(others), distinct_rows=int(n)), limits)


@pytest.mark.usefixtures("_once_each")
def test_of_many_equal_canaries_at_most_the_nominal_share_is_aborted():
    """At most the share alpha of equal canaries is aborted, over all their looks together."""
    random = np.random.default_rng(1)
    aborted = promoted = changed = 0
    count = 1000 if EXHAUSTIVE else 100
    for _ in range(count):
        judgements = list(one_canary(random))
        assert len(judgements) >= 50
        aborted += any(look.verdict == "abort" for look in judgements)
        promoted += judgements[-1].verdict == "promote"
        changed += next(look for look in judgements[-1].looks if look.figure == "churn").observed > 0.01
    assert aborted <= LIMITS.alpha * count
    assert promoted >= count / 2
    assert changed == count


def moved_up(scores):
    """Half as many again as the limit allows go over the side that counts, and only over that one."""
    near = np.argsort(np.abs(scores - 0.5) + (scores > 0.5))[: int(0.15 * len(scores))]
    return np.put(moved := scores.copy(), near, 0.5001) or moved


def changed_sides(scores):
    """As many go up as go down, 15 % each, with a limit of 20 % in all."""
    moved = scores.copy()
    for near in (scores + 2 * (scores > 0.5), 1 - scores + 2 * (scores <= 0.5)):
        chosen = np.argsort(-near * (near < 1.0))[: int(0.15 * len(scores))]
        moved[chosen] = 1 - scores[chosen]
    return moved


def narrowed(scores):
    """All that is low says 0.31: the lowest cut moves by far more than the limit, the side that counts by nothing."""
    return np.where((scores < 0.31), 0.31, scores)


PLANTED = {
    "error_rate": {"failed": USUAL["failed"] + LIMITS.error_rate},
    "refusal_rate": {"refused": USUAL["refused"] + LIMITS.refusal_rate},
    "p99_ms": {"slow": USUAL["slow"] + 0.015},
    "prediction_rate": {"spoil": moved_up},
    "churn": {"spoil": changed_sides},
    "drift": {"spoil": narrowed},
}


@pytest.mark.usefixtures("_once_each")
@pytest.mark.parametrize("figure", PLANTED)
def test_a_regression_of_the_declared_size_is_caught_by_its_figure(figure):
    """A regression of the size that the limit declares is caught by its figure in four of five canaries."""
    random = np.random.default_rng(2)
    caught = promoted = 0
    for _ in range(40):
        for judgement in one_canary(random, **PLANTED[figure]):
            if judgement.verdict == "abort":
                caught += figure in {look.figure for look in judgement.looks if look.verdict == "abort"}
                break
            promoted += judgement.verdict == "promote"
    assert caught >= 0.8 * 40
    assert promoted <= LIMITS.alpha * 40


def test_an_equal_canary_is_promoted():
    """A candidate that equals its champion in every figure is promoted."""
    judgement = judge(seen(), LIMITS)
    assert judgement.verdict == "promote"
    assert {look.figure for look in judgement.looks} == {
        *("error_rate", "refusal_rate", "p99_ms", "prediction_rate", "churn", "drift")
    }


@pytest.mark.parametrize(
    ("evidence", "why"),
    [
        (seen(Counted(0, 20), Counted(0, 9000), sides=Paired(0, 0, 20)), "20 requests, at least 100 required"),
        (seen(Counted(0, 99), None, champion_slow=None), "99 requests, at least 100 required"),
        (seen(Counted(1, 99), Counted(0, 99)), "99 requests, at least 100 required"),
        (seen(missing="the router gave no metrics"), "the router gave no metrics"),
        (seen(failed=None), "0 requests"),
        (seen(slow=None), "p99_ms was not observed"),
        (seen(sides=None), "prediction_rate was not observed; churn was not observed"),
        (seen(distribution=()), "drift was not observed"),
        (seen(against=Counted(0, 0)), "is possible"),
    ],
)
def test_too_little_is_hold_and_says_why(evidence, why):
    """Missing or too little evidence gives hold, with the figure that is missing."""
    judgement = judge(evidence, LIMITS)
    assert judgement.verdict == "hold"
    assert why in judgement.reason


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
        (seen(Counted(99, 99), Counted(0, 9000)), "error_rate"),
        (seen(Counted(4, 4), None, champion_slow=None), "error_rate"),
        (
            seen(refused=Counted(4, 4), champion_refused=Counted(0, 300), failed=Counted(0, 4), past=True),
            "refusal_rate",
        ),
        (seen(refused=Counted(9, 9), champion_refused=Counted(0, 12), failed=Counted(0, 9), past=True), "refusal_rate"),
        (seen(Counted(0, 40), slow=Counted(40, 40), champion_slow=Counted(0, 300)), "p99_ms"),
        (seen(Counted(0, 40), **once(Paired(20, 20, 40))), "churn"),
    ],
)
def test_each_figure_alone_can_abort(evidence, figure):
    """Each figure alone aborts a canary when it is over its limit."""
    judgement = judge(evidence, LIMITS)
    assert judgement.verdict == "abort"
    assert [look.figure for look in judgement.looks if look.verdict == "abort"] == [figure]
    assert "over the limit" in judgement.reason


def test_one_row_asked_again_and_again_aborts_nothing():
    """Many requests with the same row abort nothing: the distribution needs different rows."""
    alone = {"distinct_sides": Paired(0, 0, 1), "distinct_distribution": (Paired(1, 0, 1),)}
    judgement = judge(seen(distribution=(Paired(5000, 0, 5000),), distinct_rows=1, **alone), LIMITS)
    assert judgement.verdict == "hold"
    assert "but on 1 different rows, which prove too little" in judgement.reason


def test_a_champion_that_is_just_as_slow_clears_the_candidate_of_blame():
    """A candidate that is as slow as its champion is not aborted."""
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
    """Failures, refusals or latency that the champion has too abort no candidate."""
    assert judge(seen(**usual, past=past), LIMITS).verdict != "abort"


def test_bad_requests_of_clients_abort_no_first_version():
    """Refused requests do not abort a first version, which has no champion to compare with."""
    judgement = judge(seen(against=None, refused=Counted(2500, 5000), past=True), LIMITS)
    assert judgement.verdict == "promote"


def test_a_first_version_that_refuses_nearly_all_is_promoted_and_it_is_said():
    """Refusals without any figure of a champion to compare with promote, and a proven majority of them is in the reason."""
    judgement = judge(seen(against=None, refused=Counted(4900, 5000), past=True), LIMITS)
    assert judgement.verdict == "promote"
    assert "4,900 of 5,000 requests were refused, and no champion's figure to compare with" in judgement.warning
    assert judgement.warning in judgement.reason
    few = judge(seen(Counted(0, 12), None, refused=Counted(12, 12), past=True), LIMITS)
    assert (few.verdict, few.suspicion) == ("hold", "")
    assert "12 of 12 requests were refused" in few.reason


def test_a_stall_that_slows_some_of_few_answers_proves_no_slow_candidate():
    """Slow answers come together, so of few answers a majority must be proven slow."""
    few = {"failed": Counted(0, 40), "champion_slow": Counted(0, 300)}
    assert judge(seen(**few, slow=Counted(12, 40)), LIMITS).verdict == "hold"


@pytest.mark.parametrize(
    ("refused", "champion", "suspected", "improbable"),
    [
        (Counted(1, 1), Counted(0, 300), True, False),
        (Counted(3, 3), Counted(0, 300), True, True),
        (Counted(8, 8), Counted(0, 2), True, True),
        (Counted(1, 30), Counted(0, 300), False, False),
        (Counted(2, 5), Counted(120, 300), False, False),
        (Counted(3, 3), Counted(0, 0), False, False),
        (Counted(3, 3), None, False, False),
    ],
)
def test_refusals_over_the_limit_that_are_not_proven_are_suspected(refused, champion, suspected, improbable):
    """Refusals over the limit that few requests do not prove are suspected, and the reason has them."""
    judgement = judge(
        seen(Counted(0, refused.of), refused=refused, champion_refused=champion, past=True, champion_slow=None), LIMITS
    )
    assert judgement.verdict == "hold"
    assert (bool(judgement.suspicion), judgement.improbable) == (suspected, improbable)
    assert judgement.suspicion in judgement.reason


@pytest.mark.usefixtures("_once_each")
def test_of_many_equal_bakes_with_few_requests_at_most_the_nominal_share_goes_back():
    """Of equal versions with few requests in the last bake at most the share alpha is aborted or goes back at its end."""
    random = np.random.default_rng(5)
    aborted = returned = 0
    for past in (20, 300):
        for _ in range(200):
            champion = Counted(int(random.binomial(past, 0.03)), past)
            refused = np.cumsum(random.random(40) < 0.03)
            looks = [
                judge(
                    seen(Counted(0, n), refused=Counted(int(refused[n - 1]), n), champion_refused=champion, past=True),
                    LIMITS,
                )
                for n in range(1, 41)
            ]
            aborted += any(look.verdict == "abort" for look in looks)
            returned += looks[int(random.integers(40))].improbable
    assert aborted <= LIMITS.alpha * 400
    assert returned <= LIMITS.alpha * 400


@pytest.mark.parametrize("of", [1, 5, 100, 10**6])
@pytest.mark.parametrize("other", [1, 7, 10**6])
def test_a_difference_as_large_as_can_be_has_bounds(of, other):
    """The bounds of a difference hold at its extremes."""
    for one, two in itertools.product((0, 1, of - 1, of), (0, 1, other - 1, other)):
        low, high = confidence.difference(Counted(one, of), Counted(two, other), 0.01)
        assert -1 <= low <= one / of - two / other <= high <= 1


def test_an_interval_holds_at_all_looks_together():
    """An interval misses the true share at any of 60 looks in at most the share alpha of 500 walks."""
    random = np.random.default_rng(3)
    outside = 0
    for _ in range(500):
        hits = np.cumsum(random.binomial(20, 0.1, size=60))
        bounds = [interval(Counted(int(h), 20 * (i + 1)), 0.1) for i, h in enumerate(hits)]
        outside += any(not low <= 0.1 <= high for low, high in bounds)
    assert outside <= 50


def test_the_watch_keeps_an_equal_champion_and_finds_a_worse_one():
    """The watch after a rollout keeps an equal champion, rolls a worse one back, and waits for enough labels."""
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
    assert (few.decision, few.reason) == ("keep", "50 rows have labels, at least 100 required")


WORSE = {
    "error_rate": {"failed": Counted(400, 5000)},
    "refusal_rate": {"refused": Counted(300, 300)},
    "p99_ms": {"slow": Counted(400, 5000)},
    "prediction_rate": {"sides": Paired(800, 0, 5000)},
    "churn": {"sides": Paired(700, 700, 5000)},
    "drift": {"distribution": (SAME, Paired(1500, 0, 5000))},
}


@pytest.mark.parametrize("figure", WORSE)
def test_a_figure_that_is_off_is_neither_judged_nor_waited_for(figure):
    """A candidate whose only fault is in a figure that is off goes on, also where that figure was not observed."""
    off = LIMITS.model_copy(update={figure: None})
    assert judge(seen(**WORSE[figure]), LIMITS).verdict == "abort"
    judgement = judge(seen(**WORSE[figure]), off)
    assert judgement.verdict == "promote"
    assert figure not in {look.figure for look in judgement.looks}
    assert len(judgement.looks) == 5
    unseen = {"p99_ms": {"slow": None}, "drift": {"distribution": ()}}.get(figure, {})
    assert judge(seen(**unseen), off).verdict == "promote"


def test_the_figures_that_are_on_share_alpha():
    """With fewer figures on, each takes a larger part of alpha, so that it is proven by fewer requests."""
    alone = LIMITS.model_copy(update=dict.fromkeys(WORSE, None) | {"error_rate": 0.01})
    few = seen(Counted(0, 1300), Counted(0, 11_700))
    assert judge(few, alone).verdict == "promote"
    assert judge(few, LIMITS).verdict == "hold"


def test_failures_whose_limit_is_off_are_no_suspicion():
    """Failures and refusals hold no last bake when their limits are off."""
    few = seen(Counted(1, 5), Counted(0, 300), refused=Counted(1, 5), champion_refused=Counted(0, 300), past=True)
    assert judge(few, LIMITS).suspicion
    off = LIMITS.model_copy(update={"error_rate": None, "refusal_rate": None})
    assert judge(few, off).suspicion == ""
    first = seen(against=None, refused=Counted(4900, 5000), past=True)
    assert judge(first, off).warning == ""


def test_a_canary_that_has_nothing_left_to_judge_holds():
    """A canary whose figures are off, or could not be compared, is not promoted by having nothing against it."""
    only_churn = LIMITS.model_copy(update=dict.fromkeys(WORSE, None) | {"churn": 0.2})
    judgement = judge(seen(not_compared="predictions were not compared: plan is personal"), only_churn)
    assert judgement.verdict == "hold"
    assert "plan is personal; nothing is left to judge: rollout.limits.error_rate, " in judgement.reason
    assert judgement.reason.endswith("rollout.limits.drift are null (off)")
