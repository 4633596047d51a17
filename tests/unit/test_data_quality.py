"""Requests that stop coming are an alarm of their own, which asks for no retrain; rules that rows break are counted."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta

import duckdb
import numpy as np
import pandas as pd
import pytest

from pipeline.cli import tables
from pipeline.ledger.events import DriftChecked, GatesChecked
from pipeline.monitoring import counted_requests, live_quality, logged_quality, quarantine_rates
from pipeline.monitoring.data_quality import DataQuality, judged
from pipeline.monitoring.logged_quality import LoggedQuality
from pipeline.policy.drift_sentence import drift_sentence
from pipeline.rollout.slots import predictions_folder
from pipeline.runs import data_check
from pipeline.serving.request_counts import RequestCounts
from tests.support.monitored import AS_OF, Monitored

DAILY = 91
# Weekdays have 200 requests, the day before the newest and each of its weekdays 100, and that after it 5.
WEEK = (200, 100, 5, 200, 200, 200, 200)


def log(*newest, weeks=26, silent_h=0.2, silences_h=(9.0, 8.0, 7.0, 6.0)):
    """A log with these rows in its newest days, and every week as WEEK before them."""
    days = [*newest, *(WEEK * weeks)[len(newest) :]]
    return LoggedQuality(tuple(days), silent_h, silences_h)


@pytest.mark.parametrize(
    ("logged", "looks", "verdict", "reason"),
    [
        (
            log(),
            DAILY,
            "usual",
            "200 in the last 24 hours, 200 are usual there; none for 0.2 hours, up to 12.0 are usual",
        ),
        (
            log(0, silent_h=24.0),
            DAILY,
            "alarm",
            "0 in the last 24 hours, 200 are usual there and none for 24.0 hours, up to 12.0",
        ),
        (log(20), DAILY, "alarm", "20 in the last 24 hours, 200 are usual there"),
        (log(21), DAILY, "alarm", "21 in the last 24 hours, 200 are usual there (133 to 300 by its history)"),
        (log(134), DAILY, "usual", "134 in the last 24 hours, 200 are usual there; none"),
        (log(400), DAILY, "alarm", "400 in the last 24 hours, 200 are usual there (133 to 300 by its history)"),
        (
            replace(log(400), repeated=(200,)),
            DAILY,
            "alarm",
            "400 in the last 24 hours, 200 are usual there (133 to 300 by its history), of which 200 repeat the key and the time",
        ),
        # A history of six weeks knows what is nearly nothing, and no more.
        (log(21, weeks=6), DAILY, "usual", "21 in the last 24 hours"),
        (log(9, weeks=6), DAILY, "alarm", "9 in the last 24 hours, 200 are usual there"),
        # A weekly look judges each day of its week by its own weekday; so few rows as on the third may well be none.
        (log(200, 9, 0), 13, "alarm", "9 in the 24 hours up to 1 day before, 100 are usual there"),
        (log(200, 100, 0), 13, "usual", "200 in the last 24 hours, 200 are usual there"),
        (log(weeks=5), DAILY, "no verdict", "the log has 34 whole days before this look, 35 required"),
        (LoggedQuality(), DAILY, "no verdict", "the log has 0 whole days"),
    ],
)
def test_a_day_is_judged_by_its_weekdays_and_a_silence_by_those_before(logged, looks, verdict, reason):
    """Fewer or more than the history allows of the median of the same weekday is an alarm; a short log tells nothing."""
    found = judged(logged, 1000, 1, looks)
    assert (found.verdict, found.reason[: len(reason)]) == (verdict, reason)


def test_what_the_log_had_oftener_than_the_budget_allows_is_usual():
    """One day without requests in half a year is within the budget of one false alarm a quarter; five of them are not."""
    empty = log(0).days
    one, five = list(empty), list(empty)
    one[21] = 0
    for week in range(1, 6):
        five[21 * week] = 0
    assert judged(replace(log(0), days=tuple(one)), 0, 1, DAILY).verdict == "alarm"
    assert judged(replace(log(0), days=tuple(five)), 0, 1, DAILY).verdict == "usual"
    # The third longest silence is one more than the budget allows for in half a year.
    assert judged(log(silent_h=9.5), 0, 1, DAILY).silence_limit_h == pytest.approx(1.5 * 8.0)
    assert judged(log(silent_h=9.5), 0, 0.1, DAILY).silence_limit_h == pytest.approx(1.5 * 9.0)


def test_quiet_logs_alarm_no_oftener_than_the_budget():
    """On logs of unlike days, with a year of looks at each: fewer than one a quarter."""
    rng, alarms, looks = np.random.default_rng(5), 0, 0
    for _ in range(20):
        days = rng.poisson(200 * rng.lognormal(0, 0.8, 400))
        for newest in range(200):
            alarms += (
                judged(LoggedQuality(tuple(days[newest : newest + 190].tolist()), 0.1, ()), 0, 1, DAILY).verdict
                == "alarm"
            )
            looks += 1
    assert alarms <= looks / DAILY


def test_the_log_counts_by_receipt_and_rules_without_their_values():
    """What came after the look is not in it, whatever its event time; a row that breaks a rule twice counts once."""
    end = pd.Timestamp("2024-03-01", tz="UTC")
    ago_h = np.array([-1, 2.5, 3, 20, 30, 100])
    rows = pd.DataFrame(
        {
            "received_at": end - pd.to_timedelta(ago_h, unit="h"),
            "event_at": end - pd.to_timedelta([5, 5, 5, 500, 5, 5], unit="h"),
            "breaches": [None, '["spend must be at least 0; got -5", "spend must be at least 0; got -5"]',
                         '["spend must be at least 0; got -7"]', '["calls must not be missing"]', None, None],
            "unknown": [None, None, '["plan"]', None, None, '["plan"]'],
            "key": ["a", "b", "b", "b", "c", "c"],
        }
    )  # fmt: skip
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("logged", rows)
        found = logged_quality.of_log(connection, "logged", {}, end - timedelta(days=7), end)
    assert (found.days, found.silent_h) == ((3, 1, 0, 0, 1), 2.5)
    assert found.silences_h == (70.0, 17.0, 10.0)
    assert (found.breaches, found.unknown) == ({"spend must be at least 0": 2}, {"plan": 2})
    assert found.broken_days == ((3, 3), (0, 1), (0, 0), (0, 0), (0, 1))
    assert found.unknown_days == ((1, 3), (0, 1), (0, 0), (0, 0), (1, 1))
    # Of the three of b on the newest day two have one time.
    assert found.repeated == (1, 0, 0, 0, 0, 0, 0)
    assert LoggedQuality.read_text(found.as_text()) == found


def test_the_sentence_and_the_command_say_it_and_it_asks_for_no_retrain(project, ledger, churn_artifacts, tmp_path):
    """The alarm keeps the look that raised it; the prediction log of a slot is read, also one without the columns."""
    model = Monitored(project, ledger, churn_artifacts, tmp_path / "home", 2)
    settings, folder = model.context.params.model("churn"), predictions_folder(model.home, "churn")
    read = live_quality.read_log(folder, settings, AS_OF - timedelta(days=30), AS_OF + timedelta(days=1))
    assert read.quality.days == (len(pd.read_parquet(folder)),) and read.quality.breaches == {}
    quiet = log(0, silent_h=24.0)
    first = data_check.judged(model.context, "churn", quiet, 0, AS_OF - timedelta(days=29))
    assert (first.verdict, first.since) == ("alarm", "2024-02-01T00:00:00+00:00")
    before = {"verdict": "no drift", "reason": "", "champion": "1", "as_of": first.since, "data": first.as_dict()}
    ledger.append(DriftChecked.read(before), "churn")
    check = model.check(AS_OF)
    again = data_check.judged(model.context, "churn", quiet, 0, AS_OF)
    assert again.since == first.since and check.data.verdict == "no verdict"
    said = drift_sentence(check.drift, check.alarm, check.live_quality, settings.monitor, "churn 1", data=again)
    assert said.startswith(
        "requests do not come as usual since 2024-02-01 (0 in the last 24 hours, 200 are usual there"
    )
    assert check.receipt.decision == "wait"
    assert "requests: no verdict, the log has 0 whole days before this look, 35 required" in tables.drift_check(check)
    assert check.as_dict()["data"]["verdict"] == json.loads(json.dumps(check.as_dict()))["data"]["verdict"]


def partitions(last_days, days=60):
    """Days of 600 rows with none to three in quarantine, and the newest as given."""
    counts = [*(day % 4 for day in range(days - len(last_days))), *last_days]
    return {f"{datetime(2024, 1, 1) + timedelta(days=i):%Y-%m-%d}": (broken, 600) for i, broken in enumerate(counts)}


@pytest.mark.parametrize(
    ("last_days", "days", "limit", "unusual"),
    [
        ([2, 30], 60, 0.0075, ["2024-02-29"]),
        ([2, 4], 60, 0.0075, []),
        ([2, 30], 30, None, []),
    ],
)
def test_a_partition_with_more_in_quarantine_than_any_before_is_named(last_days, days, limit, unusual):
    """One and a half times the largest share of the days before; with less than four weeks of them nothing is usual."""
    found = quarantine_rates.judged(partitions(last_days, days), "2024-03-01", 1)
    assert (found.limit, list(found.unusual)) == (limit, unusual)
    assert f"{last_days[-1] / 600:.1%} of" in str(found) and ("unusual: " in str(found)) == bool(unusual)


def test_a_look_takes_the_quarantine_of_the_newest_as_of_before_it(project, ledger, churn_artifacts, tmp_path):
    """A run as of a later day tells nothing of an earlier look; one of an earlier version of the code tells nothing at all."""
    model = Monitored(project, ledger, churn_artifacts, tmp_path / "home", 2)
    assert data_check.quarantine(model.context, "churn", AS_OF) is None
    for as_of, broken in (("2024-02-29", 30), ("2024-03-02", 90), (None, 1)):
        a_day = partitions([broken]) if as_of else None
        ledger.append(GatesChecked(verdicts=[], as_of=as_of, quarantined_a_day=a_day), "churn")
    found = data_check.quarantine(model.context, "churn", AS_OF)
    assert (found.as_of, found.newest["2024-02-29"]) == ("2024-02-29", [30, 600])


def test_flagged_rows_are_told_by_rule_and_unknown_categories_by_column():
    """With how many requests there were."""
    found = DataQuality("usual", "fine", 900, breaches={"spend must be at least 0": 12}, unknown={"plan": 3})
    assert found.lines[1:] == [
        "of the window's 900 requests some break a rule and were answered: spend must be at least 0 (12)",
        "of the window's 900 requests some have unknown categories: plan (3)",
    ]


def refusing(*newest, weeks=6, usual=(2, 1000)):
    """The log of usual days, in the newest of which so many of so many requests were refused."""
    days = (*newest, *([usual] * (7 * weeks)))
    return replace(log(), refused={"value": 90, "key": 3}, refused_days=days)


@pytest.mark.parametrize(
    ("logged", "looks", "verdict", "reason"),
    [
        (refusing((93, 1000)), DAILY, "alarm", "93 of 1,000 requests were refused in the last 24 hours, up to 0.5%"),
        (refusing((4, 1000)), DAILY, "usual", "200 in the last 24 hours"),
        # Of few requests a share says nothing, and what the history has often is usual.
        (refusing((19, 40)), DAILY, "usual", "200 in the last 24 hours"),
        (refusing((93, 1000), usual=(80, 1000)), DAILY, "usual", "200 in the last 24 hours"),
        (refusing((93, 1000), weeks=3), DAILY, "usual", "200 in the last 24 hours"),
        # A weekly look sees each day of its week.
        (refusing((2, 1000), (93, 1000)), 13, "alarm", "refused in the 24 hours up to 1 day before the look"),
    ],
)
def test_more_refused_requests_than_usual_are_an_alarm(logged, looks, verdict, reason):
    """By their share of a day's requests, within the budget of the slots' own counts; the kinds of reasons are told."""
    found = judged(logged, 700, 1, looks)
    assert found.verdict == verdict and reason in found.reason
    assert "93 requests of the window were refused: value (90), key (3)" in found.lines
    assert LoggedQuality.read_text(logged.as_text()) == logged


@pytest.mark.parametrize(("what", "said"), [("broken", "break a rule"), ("unknown", "that training never saw")])
def test_more_broken_rows_or_unknown_categories_than_usual_are_an_alarm(what, said):
    """By their share of a day's rows, as refused ones; a day with few such rows is none of the history either."""
    few = [(19, 25), *[(2, 1000)] * 50]
    logged = replace(log(), **{f"{what}_days": ((60, 1000), *few)})
    found = judged(logged, 700, 1, DAILY)
    assert (
        found.verdict == "alarm"
        and f"60 of 1,000 requests {'have a category ' * (what == 'unknown')}{said}" in found.reason
    )
    assert getattr(found, f"{what}_share") == 0.06 and getattr(found, f"{what}_limit") == 0.005
    assert judged(replace(logged, **{f"{what}_days": tuple(few)}), 700, 1, DAILY).verdict == "usual"
    assert LoggedQuality.read_text(logged.as_text()) == logged


def test_what_slots_counted_of_requests_is_read_hour_by_hour(tmp_path, caplog):
    """Of every process; a file that is none is left out and said, and an unknown kind is `other`."""
    hour = int(AS_OF.timestamp()) // 3600
    for process, kinds in (("a", {"answered": 90, "value": 6}), ("b", {"answered": 10, "odd": 4})):
        (tmp_path / f"{process}.requests").write_text(json.dumps({hour - 1: kinds, hour - 25: {"answered": 5}}))
    (tmp_path / "c.requests").write_text("[]")
    found = LoggedQuality().with_requests(tmp_path, AS_OF - timedelta(days=7), AS_OF)
    assert found.refused == {"value": 6, "other": 4}
    assert found.refused_days == ((10, 110), (0, 10))
    assert "c.requests cannot be read" in caplog.text


def test_a_slot_counts_requests_beside_its_log(tmp_path):
    """An hour each and by kind, while it runs and at its end; what is there is whole at every moment."""
    counts = RequestCounts(tmp_path / "log", "blue-v1-7")
    for kind in ("answered", "answered", "rule"):
        counts.add(kind)
    counts.write()
    counts.add("rule")
    counts.write()
    (file,) = (tmp_path / "log").iterdir()
    assert [*json.loads(file.read_text()).values()] == [{"answered": 2, "rule": 1}]
    counts.write(last=True)
    assert sum(json.loads(file.read_text()).popitem()[1].values()) == 4


@pytest.mark.parametrize("content", ["[" * 50_000, '{"1": {"answered": 1e400}}', "[]", ""])
def test_a_file_that_is_none_of_counts_ends_no_look(tmp_path, content):
    """The other files count: what is too deep to be read, and a number that is none, are left out as any damage is."""
    (tmp_path / "a.requests").write_text(content)
    (tmp_path / "b.requests").write_text('{"1": {"answered": 7}}')
    assert counted_requests.hours(tmp_path) == {1: {"answered": 7}}
