"""Live quality looks at the rows whose labels have matured, however old, and what no label reaches is said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from harness.project import change_params
from pipeline.cli import tables
from pipeline.ledger.events import DriftChecked
from pipeline.runs import label_maturity
from pipeline.runs.post_rollout_watch import watch
from tests.support.monitored import AS_OF, Monitored

DAY_S = 86_400


@pytest.fixture
def monitored(project, ledger, churn_artifacts, tmp_path):
    """The model with labels that come after ten days, and a monitor that looks at seven."""
    return Monitored(project, ledger, churn_artifacts, tmp_path / "home", 10)


def test_a_stated_delay_that_is_longer_than_the_window_finds_the_quality(monitored):
    """Ten days and a window of seven: judged are the days from the seventeenth to the tenth before the as-of, and the line says so."""
    unknown = monitored.check().live_quality
    assert (unknown.value, unknown.labelled) == (None, 0)
    change_params(monitored.project, "models.churn.source.label_delay_days", 10)
    found = monitored.check()
    quality = found.live_quality
    assert (quality.value, quality.labelled, quality.predictions) == (1.0, 7 * 60, 7 * 60)
    assert quality.judged_from == "2024-02-13T00:00:00+00:00"
    assert quality.judged_until == "2024-02-20T00:00:00+00:00"
    assert "on 420 labelled predictions from 2024-02-13 to 2024-02-20, 0.9000 when held out" in found.receipt.reasons[1]
    # Drift stays with the newest window, in which nobody asked.
    assert (found.window_start, found.drift.rows_now) == (AS_OF - timedelta(days=7), 0)
    assert DriftChecked.read(found.as_dict()).live_quality["judged_until"] == quality.judged_until


def test_without_a_stated_delay_the_measured_one_counts(monitored):
    """The 95 % of the newest snapshot up to the as-of; what is stated is preferred, and a stated delay that is too short is said."""
    monitored.landed(AS_OF - timedelta(days=1), 10 * DAY_S, 11 * DAY_S)
    found = monitored.check()
    assert (found.live_quality.labelled, found.live_quality.judged_until[:10]) == (420, "2024-02-19")
    assert found.notes == ()
    change_params(monitored.project, "models.churn.source.label_delay_days", 10)
    stated = monitored.check()
    assert stated.live_quality.judged_until[:10] == "2024-02-20"
    measured = "labels come 10 days after their rows (median; 95 % within 11 days)"
    assert stated.notes == (f"models.churn.source.label_delay_days is 10 days, but {measured}",)


def test_a_model_without_label_times_is_judged_in_the_newest_window(monitored):
    """What an earlier snapshot measured does not count when the block names no label time any more."""
    monitored.landed(AS_OF, 10 * DAY_S, 11 * DAY_S)
    change_params(monitored.project, "models.churn.source.label_time", None)
    assert monitored.check().live_quality.judged_until == AS_OF.isoformat()


def test_the_same_check_tomorrow_gives_the_same_answer(monitored):
    """What a later as-of measured, and labels that came since, change nothing of an earlier as-of."""
    monitored.landed(AS_OF - timedelta(days=1), 10 * DAY_S, 10 * DAY_S)
    today = monitored.check()
    monitored.landed(AS_OF + timedelta(days=1), 20 * DAY_S, 30 * DAY_S)
    tomorrow = monitored.check()
    assert tomorrow.as_dict() == today.as_dict()
    assert monitored.check(AS_OF + timedelta(days=1)).live_quality.judged_until[:10] == "2024-02-01"


def test_a_row_that_arrived_after_its_window_is_judged(monitored):
    """With an arrival time a row counts when it had arrived by the as-of, though not by the end of the window that is judged."""
    rows = pd.read_parquet(monitored.project / "customers" / "all.parquet")
    rows.assign(came_at=rows["decided_at"]).to_parquet(monitored.project / "customers" / "all.parquet")
    change_params(monitored.project, "models.churn.source.arrival_time", "came_at")
    change_params(monitored.project, "models.churn.source.label_delay_days", 10)
    assert monitored.check().live_quality.labelled == 420


def test_what_no_label_reaches_by_the_measured_delay_is_said_and_stops_nothing(monitored):
    """A drift check, whose model is live, has a line for each span; the decision is made all the same."""
    monitored.landed(AS_OF, 13 * DAY_S, 14 * DAY_S)
    change_params(monitored.project, "models.churn.rollout.watch_days", 5)
    found = monitored.check()
    late = "labels come 13 days after their rows (median; 95 % within 14 days)"
    assert found.notes == (
        f"models.churn.evaluation.holdout_days is 12 days, but {late}: of the held-out rows hardly one has a label; "
        "set more than 14 days and less than source.window_days, 30",
        f"models.churn.rollout.watch_days is 5 days, but {late}: of a new champion's rows hardly one has one by then; "
        "set more than 14 days, or 0 for no watch",
    )
    assert {*found.notes} < {*tables.drift_check(found).splitlines()}
    assert found.receipt.decision == "wait"
    assert label_maturity.unreached(monitored.context, "churn", AS_OF - timedelta(days=1)) == []


def test_a_champion_that_is_younger_than_the_delay_is_said(monitored):
    """Its first labels are due at its start and the delay; a check of a day before it was live says nothing of the kind."""
    change_params(monitored.project, "models.churn.source.label_delay_days", 10)
    change_params(monitored.project, "models.churn.monitor.min_rows", 500)
    monitored.live("2", "2024-02-26T08:00:00+00:00")
    due = "version 2 is live since 2024-02-26: its first labels are due on 2024-03-07, so its live quality is not known yet"
    assert monitored.check().notes == (due,)
    assert monitored.check(AS_OF - timedelta(days=9)).notes == ()


def test_the_watch_says_why_no_label_comes(monitored):
    """Its reason has the delay and the key; nothing is rolled back."""
    monitored.live("2", datetime.now(UTC).isoformat())
    monitored.landed(AS_OF, 20 * DAY_S, 25 * DAY_S)
    result = watch(monitored.context, "r", "churn", AS_OF)
    assert result.decision == "keep"
    assert result.reason == (
        "0 rows have labels, at least 100 required; models.churn.rollout.watch_days is 14 days, but labels come 20 days "
        "after their rows (median; 95 % within 25 days): of a new champion's rows hardly one has one by then; "
        "set more than 25 days, or 0 for no watch"
    )
