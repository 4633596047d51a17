"""The losses of past versions on the live requests, window by window, scored once and kept in the ledger."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from harness.project import change_params
from pipeline.ledger import label_delays
from pipeline.ledger.events import VersionRegistered
from pipeline.ledger.label_events import LabelsMeasured
from pipeline.ledger.receipt_events import WindowScored
from pipeline.ledger.rollout_events import RolloutEnded
from pipeline.ledger.timeline import live_at
from pipeline.monitoring import live_quality
from pipeline.runs import logged_answers, window_losses, window_scores
from pipeline.runs.window_losses import NoHistory, live_history
from pipeline.training.tasks import Answers
from tests.support.monitored import AS_OF, Monitored

# What each version answers to a row of label 1; to one of label 0 it answers 1 less that.
RIGHT = {"1": 0.6, "2": 0.9}


@pytest.fixture
def answering(project, ledger, churn_artifacts, tmp_path, monkeypatch):
    """Version 1 of 1 January answers all requests of January and February, labels come after 2 days, and one loss is a row's log loss."""
    world = Monitored(project, ledger, churn_artifacts, tmp_path / "home", late_days=2)
    change_params(project, "models.churn.economics", {"loss": "log_loss"})
    registered(world, "1", datetime(2024, 1, 1, tzinfo=UTC), "2024-01-01T00:00:00+00:00")
    world.landed(datetime(2024, 1, 1, tzinfo=UTC), 86_400, 2 * 86_400)
    world.live("1", "2024-01-02T00:00:00+00:00")
    asked = []

    def answers_of(context, name, package, rows, champion, loaded):
        asked.append((package.version, rows["event_time"].min(), rows["event_time"].max()))
        right = RIGHT[package.version]
        return Answers(np.where(rows["target"] == 1, right, 1 - right))

    monkeypatch.setattr(logged_answers, "answers_of", answers_of)
    world.asked = asked
    return world


def registered(world, version, as_of, at):
    event = VersionRegistered(version=version, mlflow_run="m", data_version="d", as_of=as_of.isoformat())
    world.ledger.append(event, "churn", at=at)


def history(world, as_of=AS_OF):
    return live_history(world.context, "r", "churn", live_at(world.ledger, "churn"), as_of, retrain_cost=2.0)


def test_whole_windows_whose_labels_have_matured_have_a_loss(answering):
    """The mean log loss of the live version stands in each window that ended at least the labels' delay ago, and in no other."""
    found = history(answering)
    known = found.known
    assert (known.live, known.cost, known.age) == (0, 2.0, 8)
    assert found.starts[0] == datetime(2024, 1, 1, tzinfo=UTC)
    matured = [start + timedelta(days=9) <= AS_OF for start in found.starts]
    assert (~np.isnan(known.losses[0])).tolist() == [
        m and n >= 30 for m, n in zip(matured, found.labelled, strict=True)
    ]
    assert known.losses[0][known.labelled] == pytest.approx(-np.log(0.6))
    assert len(known.labelled) >= 5
    assert (known.served[known.labelled] == 0).all()


def slower(world, days):
    """The labels of all rows come after so many days, and not after the two that the snapshot measured."""
    world.land(world.source.assign(decided_at=(world.source["seen_at"] + timedelta(days=days)).dt.as_unit("us")))


def test_labels_that_have_become_slower_are_measured_by_the_look_that_misses_them(answering):
    """A look before any has come knows none; one after measures their delay on those that came, and scores the windows that are due by it."""
    slower(answering, 20)
    assert not len(history(answering, AS_OF - timedelta(days=50)).known.labelled)
    found = history(answering)
    assert found.known.labelled.tolist() == [0, 1, 2, 3, 4]
    assert (found.labelled[:5] == 420).all()
    delays = [entry.event.label_delay_s["p95"] for entry in answering.ledger.events(LabelsMeasured)]
    assert delays == [None, 20 * 86_400]
    assert label_delays.newest(answering.ledger, "churn").p95_s == 20 * 86_400
    again = history(answering)
    assert again.known.labelled.tolist() == [0, 1, 2, 3, 4]
    assert len(answering.ledger.events(LabelsMeasured)) == 2


def test_labels_that_never_come_are_looked_for_once_a_window(answering):
    """Nor is a delay that the settings state measured by a look."""
    slower(answering, 900)
    for days in (0, 1, 7):
        assert not len(history(answering, AS_OF + timedelta(days=days)).known.labelled)
    assert [e.event.as_of[:10] for e in answering.ledger.events(LabelsMeasured)] == ["2024-03-01", "2024-03-08"]
    for week in range(12):
        none = LabelsMeasured(as_of=f"2024-06-{week + 1:02d}T00:00:00+00:00", since="", labels=0, label_delay_s={})
        answering.ledger.append(none, "churn")
    assert label_delays.newest(answering.ledger, "churn").p95_s == 2 * 86_400
    slower(answering, 20)
    change_params(answering.project, "models.churn.source.label_delay_days", 2)
    assert not len(history(answering, AS_OF + timedelta(days=20)).known.labelled)


def test_a_window_is_scored_once(answering):
    """A second look sees the same, scores nothing and writes nothing; one of an earlier as-of sees the windows of its time."""
    first = history(answering)
    scored, events = len(answering.asked), len(answering.ledger.events())
    again = history(answering)
    assert (len(answering.asked), len(answering.ledger.events())) == (scored, events)
    np.testing.assert_array_equal(again.known.losses, first.known.losses)
    earlier = history(answering, datetime(2024, 1, 30, tzinfo=UTC)).known
    assert earlier.now == 4
    np.testing.assert_array_equal(earlier.losses[0], [*first.known.losses[0][:3], np.nan])
    assert len(answering.asked) == scored


def test_a_window_that_was_scored_stays_known(answering, monkeypatch):
    """Windows older than those that a look scores have the losses of their time; those that nobody scored have none."""
    monkeypatch.setattr(window_losses, "SCORED_WINDOWS", 2)
    history(answering, datetime(2024, 1, 30, tzinfo=UTC))
    assert np.flatnonzero(~np.isnan(history(answering).known.losses[0])).tolist() == [1, 2, 6, 7]


def test_many_requests_are_read_in_parts_and_come_to_the_same(answering, monkeypatch):
    """A log that memory would not hold at once, and windows of which a sample is scored, in their order; nothing else differs."""
    whole = history(answering)
    at_once, events = len(answering.asked), answering.ledger.events(WindowScored)
    assert at_once == 1
    monkeypatch.setattr(window_scores, "AT_ONCE", 900)
    parts = list(window_scores.score(*asked_of(answering, whole)))
    assert len(parts) > 1
    found = [event for part in parts for event in part]
    assert [event.body() for event in found] == [entry.event.body() for entry in events]
    monkeypatch.setattr(window_scores, "AT_ONCE", 250_000)
    monkeypatch.setattr(window_scores, "SAMPLE_ROWS", 200)
    sampled = [event for part in window_scores.score(*asked_of(answering, whole)) for event in part]
    assert [event.requests for event in sampled] == [event.requests for event in found]
    assert sampled[0].labelled == pytest.approx(found[0].labelled, rel=0.2)
    assert sampled[0].losses["d1"] == pytest.approx(found[0].losses["d1"])


def asked_of(world, found):
    """What `window_scores.score` takes for the windows that have losses."""
    labelled = [start for start, rows in zip(found.starts, found.labelled, strict=True) if rows]
    week = timedelta(days=7)
    windows = [
        window_scores.Window((start - window_scores.MONDAY) // week, week, timedelta(days=2)) for start in labelled
    ]
    wanted = [window_scores.Wanted(window, found.versions) for window in windows]
    return world.context, "churn", live_at(world.ledger, "churn"), wanted, found.versions


@pytest.mark.parametrize("untimed", [False, True])
def test_the_source_is_read_once_for_all_windows(answering, monkeypatch, untimed):
    """Also where requests have no event time, so that their labels are looked for window by window; with times of arrival each has its own."""
    whole, read = history(answering), []
    real, logged = live_quality.labels, live_quality.read_log
    monkeypatch.setattr(live_quality, "labels", lambda *asked: read.append(asked) or real(*asked))
    if untimed:
        monkeypatch.setattr(live_quality, "read_log", lambda *asked: without_times(logged(*asked)))
    asked = asked_of(answering, whole)
    found = [event for part in window_scores.score(*asked) for event in part]
    assert len(read) == 1
    assert [event.losses for event in found] == [e.event.losses for e in answering.ledger.events(WindowScored)]
    change_params(answering.project, "models.churn.source.arrival_time", "seen_at")
    again = [event for part in window_scores.score(answering.context, *asked[1:]) for event in part]
    assert len(read) == 1 + len(asked[3])
    assert [event.body() for event in again] == [event.body() for event in found]


def without_times(found):
    return found._replace(rows=found.rows.assign(timed=False))


def test_a_past_version_is_scored_on_the_windows_after_its_training_alone(answering):
    """Version 2 learnt up to a Wednesday: it has a loss from the next whole window on, and what version 1 lost there stays."""
    before = history(answering).known
    registered(answering, "2", datetime(2024, 1, 24, tzinfo=UTC), "2024-02-20T00:00:00+00:00")
    answering.live("2", "2024-02-20T01:00:00+00:00")
    known = history(answering).known
    assert (known.live, known.born.tolist(), known.age) == (1, [0, 4], 4)
    np.testing.assert_array_equal(known.losses[0], before.losses[0])
    assert np.flatnonzero(~np.isnan(known.losses[1])).tolist() == [w for w in before.labelled if w >= 4]
    assert known.losses[1][known.labelled] == pytest.approx(-np.log(0.9))
    assert (known.served[known.labelled] == 0).all()
    events = [entry.event for entry in answering.ledger.events(WindowScored)]
    assert {event.loss for event in events} == {"log_loss"}


def test_what_cannot_be_compared_says_why_and_is_not_tried_again(answering, monkeypatch):
    """A version that needs what requests no longer carry has no loss; the event says why."""

    def refuse(context, name, package, rows, champion, loaded):
        raise logged_answers.Incomparable("version 1 needs calls, which requests no longer carry")

    monkeypatch.setattr(logged_answers, "answers_of", refuse)
    assert np.isnan(history(answering).known.losses).all()
    told = answering.ledger.events(WindowScored)
    assert set(told[0].event.left_out.values()) == {"version 1 needs calls, which requests no longer carry"}
    history(answering)
    assert len(answering.ledger.events(WindowScored)) == len(told)


def test_a_version_of_unknown_age_is_as_old_as_it_is_live(answering):
    """Where nobody knows as of when the live version was trained it counts from when it went live; without a digest it is no version."""
    answering.live("7", "2024-02-20T01:00:00+00:00")
    found = history(answering)
    assert [each.as_of_known for each in found.versions] == [True, False]
    assert found.known.born[1] == found.known.now and found.known.live == 1
    unknown = RolloutEnded.read({"version": "8", "slot": "green", "engine": "process"})
    answering.ledger.append(unknown, "churn", at="2024-02-21T01:00:00+00:00")
    with pytest.raises(NoHistory, match="neither as of when version 8 was trained nor what it is"):
        history(answering)
