"""An alarm that goes on is one alarm, and asks for one retrain."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from pipeline.ledger.events import DriftChecked, RetrainAsked, VersionRegistered
from pipeline.monitoring.change_shape import alike, shape_of
from pipeline.monitoring.profiles.layout import ColumnLayout
from pipeline.policy.alarms import QUALITY, Alarm, Learnt, Look, after, back_again, standing
from pipeline.runs import drift_alarm
from tests.support.monitored import Monitored, at

DAY = timedelta(days=1)
MONDAY = datetime(2024, 5, 6, tzinfo=UTC)
CATEGORY = ColumnLayout("plan", "category", top=("basic", "plus", "gold"))


def number(*edges):
    return ColumnLayout("spend", "number", edges=edges, points=(0.0,) * (len(edges) + 1))


def counts(*buckets):
    return np.array([*buckets, 0, 0, 0, 0])


def to_plan(now):
    return shape_of(CATEGORY, counts(50, 30, 20, 0), counts(*now))


UP = shape_of(number(1, 2, 3), counts(25, 25, 25, 25), counts(0, 0, 20, 80))
DOWN = shape_of(number(1, 2, 3), counts(25, 25, 25, 25), counts(80, 20, 0, 0))
GOLD = to_plan((20, 10, 70, 0))


def look(week, worse=None, verdict="drift", champion=None, **moved):
    """The look of so many weeks after MONDAY."""
    as_of = MONDAY + 7 * week * DAY
    verdict = verdict if moved or verdict == "no verdict" else "no drift"
    return Look(as_of - 7 * DAY, as_of, verdict, moved, worse, champion or Learnt("1"))


def over(*looks):
    """The alarm after each of the looks."""
    alarms, alarm = [], None
    for each in looks:
        alarm = after(alarm, each)
        alarms.append(alarm)
    return alarms


def test_what_is_left_of_a_change_in_a_slice_is_the_same_change():
    """A feature that moved everywhere, and later in one slice alone, goes on; one that begins in a slice and spreads is a new alarm."""
    in_slice = "spend where plan is gold"
    sliced = replace(look(1, **{in_slice: UP}), base={in_slice: "spend"})
    first, left, again = over(look(0, spend=UP), sliced, look(2, spend=UP))
    assert first.since == left.since == again.since
    alone, spread = over(sliced, look(2, spend=UP))
    assert alone.features == {in_slice: alone.since} and spread.since > alone.since


def test_an_alarm_begins_goes_on_and_ends_with_a_quiet_look():
    """Its start and its features stay; a look without a verdict neither ends it nor raises one; the next alarm is a new one."""
    first, second, unknown, ended, again = over(
        look(0, plan=GOLD, spend=UP), look(1, spend=UP), look(2, verdict="no verdict"), look(3), look(4, spend=UP)
    )
    assert (first.since[:10], first.start[:10], list(first.features)) == ("2024-05-06", "2024-04-29", ["plan", "spend"])
    assert first == second == unknown
    assert ended == replace(first, ended=look(3).as_of.isoformat())
    assert (again.since[:10], again.ended) == ("2024-06-03", "")
    assert Alarm.read(first.as_dict()) == first


@pytest.mark.parametrize("blind", [{"spend"}, {"spend where plan is gold"}])
def test_a_look_that_has_no_verdict_on_what_changed_ends_nothing(blind):
    """It is quiet about other features, or knows of no label; a look that saw what the alarm is about ends it."""
    (name,) = blind
    first, unseen, ended = over(look(0, **{name: UP}), replace(look(1), unjudged=blind), look(2))
    assert unseen == first and ended.ended == look(2).as_of.isoformat()
    worse, unknown, fine = over(look(0, worse=True), look(1), look(2, worse=False))
    assert unknown == worse and fine.ended == look(2).as_of.isoformat()


def test_a_further_feature_is_a_new_alarm():
    """The feature that was changed before keeps its own date."""
    _, second = over(look(0, plan=GOLD), look(1, plan=GOLD, spend=UP))
    assert second.since[:10] == "2024-05-13"
    assert {name: since[:10] for name, since in second.features.items()} == {
        "plan": "2024-05-06",
        "spend": "2024-05-13",
    }


@pytest.mark.parametrize(
    ("before", "now", "is_new"),
    [
        (UP, DOWN, True),
        (GOLD, to_plan((5, 5, 90, 0)), False),
        (to_plan((45, 28, 27, 0)), GOLD, False),
        (GOLD, to_plan((10, 80, 10, 0)), True),
    ],
)
def test_another_change_of_the_same_feature_is_a_new_alarm(before, now, is_new):
    """It goes by where the rows went, and not by how many: a change that has filled a tenth of the window grows in the next look."""
    first, second = over(look(0, spend=before), look(1, spend=now))
    assert (second.since != first.since) is is_new


def test_shapes_are_compared_across_the_edges_of_two_references():
    """The reference of a version that has learnt half of a change has other edges; what is left points the same way."""
    others = number(1.5, 2.8, 4)
    left = shape_of(others, counts(25, 25, 25, 25), counts(5, 5, 30, 60))
    back = shape_of(others, counts(25, 25, 25, 25), counts(60, 30, 5, 5))
    assert alike(UP, left) and not alike(UP, back)


def test_answers_that_get_worse_under_a_change_are_the_same_alarm():
    """Unless a version that was trained since had answered rightly before: then it is something else."""
    first, second = over(look(0, spend=UP), look(1, worse=True, spend=UP))
    assert second == first
    trained = Learnt("2", MONDAY)
    _, fine, worse = over(
        look(0, spend=UP),
        look(1, worse=False, champion=trained, spend=UP),
        look(2, worse=True, champion=trained, spend=UP),
    )
    assert (fine.fine, worse.since[:10]) == ("2", "2024-05-20")
    (alone,) = over(look(0, worse=True))
    assert list(alone.features) == [QUALITY]


def test_why_an_alarm_starts_nothing():
    """What was asked for, what the live version has learnt, and what it held out; nothing of it holds: it asks."""
    alarm, later = after(None, look(0, spend=UP)), look(1, spend=UP)
    assert standing(alarm, look(0, spend=UP)) == ""
    assert standing(alarm, later, alarm.since) == (
        "a retrain was asked for at the look of 2024-05-06; version 1 is still live"
    )
    held_out = replace(later, champion=Learnt("2", MONDAY, date(2024, 2, 1), date(2024, 4, 30)))
    assert standing(alarm, held_out) == (
        "version 2 was trained as of 2024-05-06 and holds out a part of the days from 2024-04-29 to 2024-05-06, "
        "and that did not cure it"
    )
    learnt = Learnt("3", MONDAY + 7 * DAY, date(2024, 2, 1), date(2024, 5, 5))
    assert standing(alarm, replace(later, champion=learnt), alarm.since) == (
        "a retrain was asked for at the look of 2024-05-06; version 3 has already learnt from the days from 2024-04-29 to "
        "2024-05-06, and that did not cure it"
    )
    assert standing(alarm, look(0, champion=learnt, spend=UP)) == (
        "version 3 has already learnt from the days from 2024-04-29 to 2024-05-06"
    )


@pytest.fixture
def monitored(project, ledger, churn_artifacts, tmp_path):
    """Version 1 learnt from February, and answers requests that are all the same."""
    return Monitored(project, ledger, churn_artifacts, tmp_path / "home", 2)


def ask(monitored, check):
    """What the monitor Dag does with a look whose decision is to retrain."""
    asked = RetrainAsked(since=check.alarm.since, as_of=check.as_of.isoformat(), reason="drift")
    drift_alarm.note_asked(monitored.context, "r", "churn", asked)


def test_one_lasting_change_asks_once_however_often_one_looks(monitored):
    """The later looks wait and say why; the first, when it is repeated, answers as it did, and it is known that it has asked."""
    first = monitored.check(at(3))
    assert (first.receipt.decision, first.alarm.since) == ("retrain", at(3).isoformat())
    assert drift_alarm.asked_by(monitored.context, "churn", first.alarm.since) == ""
    ask(monitored, first)
    later = [monitored.check(at(day)) for day in (4, 5)]
    assert [check.receipt.decision for check in later] == ["wait", "wait"]
    assert later[1].receipt.reasons[-1] == (
        "alarm: a retrain was asked for at the look of 2024-02-03; version 1 is still live"
    )
    assert later[1].alarm == first.alarm
    again = [monitored.check(at(day)).as_dict() for day in (3, 4, 5)]
    assert again == [check.as_dict() for check in (first, *later)]
    assert drift_alarm.asked_by(monitored.context, "churn", first.alarm.since) == "r"


def test_a_look_that_asked_nobody_leaves_the_asking_to_the_next(monitored):
    """A person's look by hand starts nothing, so the monitor's still asks."""
    by_hand = monitored.check(at(3))
    assert monitored.check(at(4)).receipt.decision == "retrain"
    assert monitored.check(at(4)).alarm == by_hand.alarm


def test_the_days_that_the_champion_learnt_from_start_nothing(monitored):
    """A look at the past, whose days are in the training window of what is live now."""
    check = monitored.check(at(12))
    assert (check.drift.verdict, check.receipt.decision) == ("drift", "wait")
    assert check.receipt.reasons[-1] == (
        "alarm: version 1 has already learnt from the days from 2024-02-05 to 2024-02-12"
    )


def retrained_for(monitored):
    """The look that raised an alarm, for which version 2 was then trained and went live."""
    first = monitored.check(at(3))
    ask(monitored, first)
    registered = VersionRegistered(version="2", mlflow_run="m", data_version="d", as_of=first.as_of.isoformat())
    monitored.ledger.append(registered, "churn", at="2024-02-03T01:00:00")
    monitored.live("2", "2024-02-03T02:00:00+00:00")
    return first


def test_a_retrain_that_did_not_cure_is_said(monitored):
    """Version 2 was trained as of the look that raised the alarm, and the change goes on."""
    retrained_for(monitored)
    check = monitored.check(at(5))
    assert check.receipt.decision == "wait"
    assert check.receipt.reasons[-1].endswith("and that did not cure it")


def test_a_change_that_was_gone_for_a_look_is_not_retrained_for_again():
    """Where the live version was trained since a retrain was asked for it; not where it was trained before, nor for another change."""
    first = after(None, look(0, spend=UP))
    learnt, older = (Learnt(str(number), MONDAY + 7 * number * DAY) for number in (1, -1))
    asked = MONDAY.isoformat()
    assert back_again(first, look(5, champion=learnt, spend=UP), asked) == (
        "a retrain was asked for at the look of 2024-05-06; version 1 was trained on this very change as of 2024-05-13, and that did not "
        "cure it: it is here again"
    )
    for other in (
        look(5, champion=older, spend=UP),
        look(5, champion=learnt, spend=DOWN),
        look(5, champion=learnt, worse=True),
    ):
        assert back_again(first, other, asked) == ""
    assert back_again(first, look(5, champion=learnt, spend=UP, calls=UP), asked) == ""


def test_an_alarm_that_flickers_asks_for_one_retrain_in_a_year(monitored):
    """After a retrain a quiet look ends the alarm, and the next one like it begins anew: the receipt names the guard."""
    first = retrained_for(monitored)
    gone = {**first.as_dict(), "as_of": at(4).isoformat(), "verdict": "no drift", "moved": []}
    gone["alarm"] = {**gone["alarm"], "ended": at(4).isoformat()}
    monitored.ledger.append(DriftChecked.read(gone), "churn")
    check = monitored.check(at(5))
    assert (check.receipt.decision, check.alarm.since) == ("wait", at(5).isoformat())
    assert "version 2 was trained on this very change" in check.receipt.reasons[-1]


def test_a_check_of_an_earlier_version_of_the_code_is_no_alarm(monitored):
    """Its event says nothing of alarms."""
    monitored.ledger.append(
        DriftChecked(verdict="drift", reason="x", champion="1", as_of=at(2).isoformat(), moved=["spend"]), "churn"
    )
    assert monitored.check(at(3)).alarm.since == at(3).isoformat()
