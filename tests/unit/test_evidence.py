"""What the counters of slots and router say of a step, also when they begin anew in it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from pipeline.policy.canary import judge
from pipeline.policy.confidence import Counted
from pipeline.registry.versions import Registry
from pipeline.rollout import evidence
from pipeline.rollout.answer_counts import RouterCounts, Served, SlotCounts
from pipeline.rollout.evidence import Observer
from pipeline.rollout.paired import Pair, Sides
from pipeline.rollout.routing.route import RoutedSlot
from pipeline.rollout.routing.traefik import service_name
from pipeline.serving.schema import Column, Reader, Schema
from pipeline.settings.addresses import Router
from pipeline.settings.rollout import RolloutLimits
from pipeline.training.signing import SigningKey

OLD = RoutedSlot("blue", "1", "http://127.0.0.1:1")
ROUTER = Router("", "", "")
NEW = RoutedSlot("green", "2", "http://127.0.0.1:2")


def page(answers=0, failed=0, slow=0, refused=0, router_failed=0):
    """What slot and router have counted."""
    return Served(SlotCounts(answers, failed, refused), RouterCounts(answers - refused, slow, router_failed))


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """An observer of a first version, and what Traefik says at each of its looks."""

    def look_at(*pages):
        scrapes = iter(pages)
        name = service_name("churn", NEW)
        monkeypatch.setattr(evidence, "served", lambda *_: {name: seen} if (seen := next(scrapes)) else {})
        observer = Observer(
            Registry(tmp_path, "", SigningKey(tmp_path)), ROUTER, "churn", None, NEW, 250, compare_traffic=False
        )
        return [observer.look() for _ in pages[1:]]

    return look_at


def test_a_step_counts_what_came_in_it(counted):
    """A step counts the requests that came after its start."""
    first, second = counted(page(1000, 5, 7), page(1000, 5, 7), page(1100, 6, 9))
    assert first.failed == Counted(0, 0)
    assert (second.failed, second.slow) == (Counted(1, 100), Counted(2, 100))


def test_a_router_that_was_started_again_counts_from_zero(counted):
    """Counts continue across a restart of the router and are never negative."""
    looks = counted(page(1000, 5, 7), page(1100, 6, 9), None, page(40, 1, 0), page(1200, 2, 3))
    assert [look.failed for look in looks] == [Counted(1, 100), Counted(1, 100), Counted(2, 140), Counted(3, 1300)]
    assert looks[-1].slow == Counted(5, 1300)
    assert all(judge(look, RolloutLimits()).verdict == "hold" for look in looks)


def looks(monkeypatch, home, *pages, shared=False):
    """What an observer of both versions sees, of pages with (champion, candidate)."""
    scrapes = iter(pages)
    names = service_name("churn", OLD), service_name("churn", NEW)
    monkeypatch.setattr(
        evidence, "served", lambda *_: None if (seen := next(scrapes)) is None else dict(zip(names, seen, strict=True))
    )
    monkeypatch.setattr(Observer, "_compare", lambda _: (_ for _ in ()).throw(OSError("no packages here")))
    observer = Observer(Registry(home, "", SigningKey(home)), ROUTER, "churn", OLD, NEW, 250, compare_traffic=shared)
    return [observer.look() for _ in pages[1:]]


def test_with_all_traffic_moved_the_champions_past_is_what_is_compared_with(monkeypatch, tmp_path):
    """With all traffic moved, the candidate is compared with the champion's past."""
    (seen,) = looks(monkeypatch, tmp_path, (page(900, 9, 5, 90), page(0)), (page(900, 9, 5, 90), page(200, 2, 1, 22)))
    assert seen.past
    assert (seen.champion_failed, seen.champion_refused) == (Counted(9, 900), Counted(90, 900))
    assert (seen.failed, seen.refused) == (Counted(2, 200), Counted(22, 200))
    assert judge(seen, RolloutLimits()).verdict == "hold"


def test_beside_each_other_both_are_counted_from_the_steps_start(monkeypatch, tmp_path):
    """With shared traffic, both versions are counted from the step's start."""
    (seen,) = looks(
        monkeypatch, tmp_path, (page(900, 9, 5, 90), page(0)), (page(1000, 9, 6, 99), page(50)), shared=True
    )
    assert not seen.past
    assert (seen.champion_failed, seen.champion_refused) == (Counted(0, 100), Counted(9, 100))


def test_a_step_that_began_without_metrics_counts_from_the_first_there_are(monkeypatch, tmp_path):
    """A step that began without metrics counts from the first metrics it gets."""
    first, second = looks(monkeypatch, tmp_path, None, (page(900), page(500, 50)), (page(900), page(600, 51)))
    assert (first.failed, second.failed) == (Counted(0, 0), Counted(1, 100))


def test_without_a_limit_for_the_latency_or_the_predictions_neither_is_looked_at(monkeypatch, tmp_path):
    """Answers are not timed, and predictions not compared, when the limits for them are off."""
    asked = []
    names = service_name("churn", OLD), service_name("churn", NEW)
    monkeypatch.setattr(
        evidence, "served", lambda *of: asked.append(of[-1]) or dict(zip(names, (page(), page()), strict=True))
    )
    registry = Registry(tmp_path, "", SigningKey(tmp_path))
    observer = Observer(registry, ROUTER, "churn", OLD, NEW, None, compare_traffic=True, compare_predictions=False)
    seen = observer.look()
    assert set(asked) == {None}
    assert (seen.slow, seen.champion_slow, seen.sides, seen.missing) == (None, None, None, "")


DOUBLE = ("float64", "float32", "float32")


def paired(old, new, zone="UTC"):
    """Two versions of these columns, the newer one in `zone`."""
    readers = Reader(Schema(tuple(old))), Reader(Schema(tuple(new), timezone=zone))
    return Pair(*(SimpleNamespace(reader=reader, features=reader.names) for reader in readers), (OLD, NEW), None, None)


@pytest.mark.parametrize(
    ("old", "new", "lacking"),
    [
        (64, 512, (["the words of note in 512 groups"], ["the words of note in 64 groups"])),
        (0, 64, (["the words of note in 64 groups"], [])),
    ],
)
def test_words_in_other_groups_are_no_words_of_these(old, new, lacking):
    """A log of 64 groups of words has none of 512: it is said in one phrase, and no value is taken for another."""
    pair = paired(*([Column("note", "text", groups=groups)] for groups in (old, new)))
    assert (pair.lacking(OLD), pair.lacking(NEW)) == lacking


@pytest.mark.parametrize(
    ("columns", "zone", "compared"),
    [
        ([Column("since", "datetime", parts=("hour",))], "Europe/Berlin", False),
        ([Column("since", "datetime")], "UTC", True),
        ([Column("spend")], "Europe/Berlin", True),
    ],
)
def test_times_of_another_zone_are_not_compared(monkeypatch, tmp_path, columns, zone, compared):
    """In another zone the same request is another moment to the candidate, so neither log tells what it would have answered."""
    observer = Observer(
        Registry(tmp_path, "", SigningKey(tmp_path)), ROUTER, "churn", OLD, NEW, None, compare_traffic=True
    )
    observer._pair = paired(columns, columns, zone)
    observer._pair.sides = "compared"
    if compared:
        assert observer._compare() == "compared"
    else:
        with pytest.raises(
            evidence.NotCompared, match="a time without a zone is one in UTC to one version, in Europe/Berlin"
        ):
            observer._compare()


@pytest.mark.parametrize(
    ("candidate", "lacking"),
    [
        (["spend"], ([], ["calls"])),
        (["spend", "calls", "age"], (["age"], [])),
        (["age"], (["age"], ["calls", "spend"])),
    ],
)
def test_predictions_are_compared_on_requests_that_have_the_columns_of_both(candidate, lacking):
    """Requests to a version are compared when they have every column that the other version needs."""
    pair = paired(map(Column, ["spend", "calls"]), map(Column, candidate))
    assert (pair.lacking(OLD), pair.lacking(NEW)) == lacking
    pair = paired(
        map(Column, ["spend", "calls"]),
        [replace(Column(n), precision=p) for n, p in zip(candidate, DOUBLE, strict=False)],
    )
    # The log of a version that takes float32 has rounded what a candidate takes as float64; the other way round nothing is lost.
    assert pair.lacking(OLD) == sorted([*lacking[0], *(["spend as float64"] if candidate[0] == "spend" else [])])
    assert pair.lacking(NEW) == lacking[1]


def test_errors_of_the_router_count_only_while_the_slot_is_away(counted):
    """Traefik's own 5xx are failures while the slot does not answer or begins anew, and a cut body's otherwise."""
    away, again = Served(None, RouterCounts(100, 0, 7)), Served(SlotCounts(20), RouterCounts(100, 0, 9))
    cut, dead, again = counted(page(100), page(100, router_failed=3), away, again)
    assert cut.failed == Counted(0, 0)
    assert dead.failed == Counted(4, 4)
    assert again.failed == Counted(6, 26)


def test_two_packages_of_one_number_are_told_apart_by_their_slots():
    """A row counts as the answer of the slot that gave it, when champion and candidate have the same number."""
    import numpy as np
    import pyarrow as pa

    from pipeline.training.tasks.base import above

    reader = Reader(Schema((Column("spend"),)))
    old, new = (
        SimpleNamespace(
            reader=reader, features=["spend"], classes=(), predict=lambda rows, at=at: np.full(len(rows), at)
        )
        for at in (0.1, 0.9)
    )
    again = RoutedSlot("green", "1", NEW.address)
    pair = Pair(old, new, (OLD, again), Sides(above(np.array([0.5])), 1), Sides(above(np.array([0.5])), 1))
    logged = pa.array([{"spend": 1.0}, {"spend": 2.0}])
    columns = {"version": ["1", "1"], "slot": ["green", "green"], "prediction": [0.8, 0.8], "features": logged}
    pair.take(pa.table(columns))
    assert (pair.sides.up.tolist(), pair.sides.down.tolist(), pair.sides.rows) == ([2], [0], 2)
