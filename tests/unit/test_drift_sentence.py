"""What a look saw is one sentence, wherever it is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.cli import tables
from pipeline.ledger.events import DriftChecked
from pipeline.monitoring.answer_shift import AnswerShift
from pipeline.monitoring.drift import DriftVerdict, FeatureDrift, Score
from pipeline.monitoring.estimated_quality import EstimatedQuality
from pipeline.monitoring.live_quality import LiveQuality
from pipeline.policy.alarms import Alarm
from pipeline.policy.drift_sentence import drift_sentence
from pipeline.settings.models import Monitor
from tests.support.monitored import Monitored, at

LIMITS = Monitor(cron="0 6 * * *", window_days=7)
WORSE = LiveQuality("log_loss", 0.41, 0.33, 640, 700, low=0.395, high=0.425, days=7)
UNKNOWN = LiveQuality("log_loss", None, 0.33, 12, 640)
ALARM = Alarm("2024-05-06T00:00:00+00:00", "", dict.fromkeys(["plan", "spend"], "2024-05-06T00:00:00+00:00"))


def moved(name, importance=None, times=2.0):
    return FeatureDrift(name, (Score("PSI", times, 1.0),), importance=importance)


def said(*features, verdict="drift", alarm=ALARM, quality=WORSE, **of_answers):
    verdict = DriftVerdict(verdict, "50 rows", 900, 50, features)
    return drift_sentence(verdict, alarm, quality, LIMITS, "churn 3", **of_answers)


def test_it_says_what_changed_since_when_and_whether_answers_got_worse():
    """In the order of change times importance, with the feature that matters most."""
    assert said(moved("plan", 0.01, 9.0), moved("spend", 0.2, 2.0)) == (
        "spend and plan changed since 2024-05-06 (spend matters most to churn 3); "
        "answers got worse: log_loss 0.4100 (0.3950 to 0.4250) on 640 matured rows, 0.3300 at its gates"
    )


def test_features_that_joined_have_their_own_date():
    """The one that came later keeps what was there before."""
    later = replace(ALARM, features={"plan": ALARM.since, "spend": "2024-05-20T06:30:00+00:00"})
    text = said(moved("plan"), moved("spend"), alarm=later)
    assert text.startswith("plan changed since 2024-05-06 and spend since 2024-05-20 06:30; ")


@pytest.mark.parametrize(
    ("features", "told"),
    [
        ([moved("plan", 0.1)], "plan changed since 2024-05-06;"),
        ([moved("plan", 0.0)], "plan changed since 2024-05-06 (churn 3 does not use it);"),
        ([moved("plan", 0.0), moved("spend", 0.0)], "(churn 3 does not use them);"),
        ([moved(f"f{i}") for i in range(7)], "f0, f1, f2, f3 and 3 more changed since 2024-05-06;"),
    ],
)
def test_what_matters_is_said_only_where_it_is_known(features, told):
    """A single feature needs no rank; many are cut."""
    assert told in said(*features)


def test_no_verdict_stays_no_verdict():
    """Nothing of calm, and an alarm from before is not called over."""
    assert said(verdict="no verdict", quality=UNKNOWN) == (
        "no verdict: 50 rows; the alarm since 2024-05-06 (plan, spend) is not known to be over; "
        "whether answers got worse is not known: 12 of 640 predictions have labels, 1,000 required"
    )
    assert said(verdict="no verdict", alarm=None).startswith("no verdict: 50 rows; answers got worse")


def test_a_quiet_look_names_what_it_has_no_verdict_on():
    """That is not calm, and an alarm about it goes on."""
    blind = replace(moved("spend", times=0.5), blind="PSI is 0 whatever comes")
    told = said(moved("plan", times=0.5), blind, verdict="no drift", alarm=None)
    assert told.startswith("no drift, and no verdict on spend; answers got worse")
    unsure = said(moved("plan", times=0.5), blind, verdict="no drift", quality=UNKNOWN)
    assert unsure.startswith(
        "no drift, and no verdict on spend; the alarm since 2024-05-06 (plan, spend) is not known to be over; whether answers"
    )
    ended = replace(ALARM, ended="2024-05-13T00:00:00+00:00")
    assert said(blind, verdict="no drift", alarm=ended).startswith(
        "no drift: the alarm since 2024-05-06 (plan, spend) is over, and no"
    )


def test_a_quiet_look_says_so_and_what_it_ended():
    """And how good the answers are."""
    fine = replace(WORSE, value=0.34, low=0.325, high=0.355)
    assert said(verdict="no drift", alarm=None, quality=fine) == (
        "no drift; answers did not get worse by more than monitor.quality_drop: log_loss 0.3400 (0.3250 to 0.3550) on 640 matured rows, "
        "0.3300 at its gates"
    )
    ended = replace(ALARM, ended="2024-05-13T00:00:00+00:00")
    better = said(verdict="no drift", alarm=ended, quality=replace(fine, value=0.3))
    assert better.startswith(
        "no drift: the alarm since 2024-05-06 (plan, spend) is over; answers did not get worse: log_loss 0.3000"
    )


def test_a_drop_that_may_be_chance_is_not_called_worse():
    """The interval reaches back below the limit, or there is none."""
    unsure = replace(WORSE, low=0.37, high=0.45)
    assert "; whether answers got worse is not sure: log_loss 0.4100 (0.3700 to 0.4500) on" in said(
        moved("plan"), quality=unsure
    )
    short = replace(WORSE, low=None, high=None, days=2)
    assert "is not sure: log_loss 0.4100 (no interval: 2 days of answers, 3 required) on" in said(
        moved("plan"), quality=short
    )


def test_without_labels_an_estimate_stands_with_its_usual_error():
    """It goes once labels have come."""
    estimated = EstimatedQuality("log_loss", 0.402, 0.0121, 640)
    assert said(verdict="no drift", alarm=None, quality=UNKNOWN, estimated=estimated).endswith(
        "1,000 required; by the inputs and the answers alone it would be log_loss 0.4020, usually off by 0.0121, "
        "where 0.3300 was at its gates"
    )
    assert "alone" not in said(verdict="no drift", alarm=None, estimated=estimated)


def test_an_alarm_says_what_the_answers_are_now():
    """A number by its mean, a class by its share; without an alarm nothing is said."""
    number, share = AnswerShift(0.24, 0.31, 0.1, 640), AnswerShift(0.1, 0.25, 0.2, 640, "gold")
    assert said(moved("plan"), answers=number).endswith(
        "0.3300 at its gates; the answers are 0.31 on average, 0.24 on the held-out rows"
    )
    assert said(moved("plan"), answers=share).endswith(
        "; 'gold' is the likeliest class in 25.0% of the answers, in 10.0% of the held-out rows"
    )
    assert "on average" not in said(verdict="no drift", alarm=None, answers=number)


def test_command_line_and_event_say_it(project, ledger, churn_artifacts, tmp_path):
    """It is the first line of the one, and the whole of the other in the timeline; older events have their reason."""
    check = Monitored(project, ledger, churn_artifacts, tmp_path / "home", 2).check(at(3))
    assert "changed since 2024-02-03" in check.said and "matters most to churn 1" not in check.said
    assert tables.drift_check(check).splitlines()[0] == check.said == check.as_dict()["said"]
    assert "decision: retrain" in tables.drift_check(check).splitlines()
    other = tables.drift_check(check, "churn goes by value").splitlines()
    assert "decision: retrain, by the rule drift; churn goes by value" in other
    (event,) = ledger.events(DriftChecked)
    assert event.event.sentence() == check.said
    before = DriftChecked(verdict="drift", reason="1 feature moved", champion="1", as_of="2024-05-06")
    assert before.sentence() == "drift: 1 feature moved"
