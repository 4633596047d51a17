"""Rows that come at some hours, or in loads, make no alarm: a window is compared with what is like it."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from pipeline.monitoring.drift import Window, compare
from pipeline.monitoring.file_drift import compare_files
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.monitoring.profiles.reference import reference_of
from pipeline.settings.models import DriftLimits

START = pd.Timestamp("2024-01-01", tz="UTC")


def by_the_hour(days, seed=0):
    """Thirty rows an hour, whose values are higher by day than at night."""
    times = pd.Series(pd.date_range(START, periods=days * 720, freq="2min"))
    warm = 2 * np.sin(2 * np.pi * times.dt.hour / 24)
    return pd.DataFrame({"at": times, "warm": warm + np.random.default_rng(seed).normal(0, 1, len(times))})


def looked_at(learnt, now, hours, first):
    """The verdict on rows of so many hours, against the rows that were learnt from."""
    end = first + pd.Timedelta(hours=hours)
    whole = reference_of(learnt, ["warm"], [], learnt["at"])
    reference = whole.at_hours(learnt, learnt["at"], first, end)
    window = Window(profile_of(now, reference.layout), hours / 24, first.date(), end.date())
    return compare(reference, window, DriftLimits())


@pytest.mark.parametrize("hour", [0, 11, 22])
def test_some_hours_are_compared_with_the_same_hours(hour):
    """A night is no drift after days, and one hour over midnight neither; a night that is as warm as a day is."""
    rows = by_the_hour(184)
    learnt, first = rows[: 182 * 720], START + pd.Timedelta(days=182, hours=hour)
    now = rows[(rows["at"] >= first) & (rows["at"] < first + pd.Timedelta(hours=8))]
    found = looked_at(learnt, now, 8, first)
    assert found.verdict == "no drift"
    assert "is compared with 43," in found.limits and found.limits.endswith(" rows of the same hours of the day")
    assert looked_at(learnt, now.assign(warm=now["warm"] + 2), 8, first).verdict == "drift"


def test_hours_that_the_reference_has_no_rows_of_have_no_verdict():
    """Nobody knows what is usual at night where all that was learnt is of the day; the reason says so."""
    rows = by_the_hour(183)
    day = rows[rows["at"].dt.hour.between(8, 16)][: 182 * 270].reset_index(drop=True)
    found = looked_at(day, rows.tail(210), 7, rows["at"].iloc[-210])
    assert (found.verdict, "0 before, of the same hours of the day" in found.reason) == ("no verdict", True)


def test_a_file_of_some_hours_is_compared_with_the_same_hours(tmp_path):
    """The evening of one day is no drift."""
    rows = by_the_hour(184)
    rows[: 182 * 720].to_parquet(tmp_path / "a.parquet")
    rows[183 * 720 + 450 : 183 * 720 + 690].to_parquet(tmp_path / "b.parquet")
    found = compare_files(tmp_path / "a.parquet", tmp_path / "b.parquet").drift
    assert found.verdict == "no drift"
    assert "unproven: a window of less than a day" in found.limits


@pytest.mark.parametrize(("span", "judged"), [(1, True), (1.5, False), (7.5, True)])
def test_days_and_a_part_of_one_have_no_verdict(span, judged):
    """Half a day more is like no whole days, and the reason says which key to change; in a week it is little."""
    rows = by_the_hour(184)
    reference = reference_of(rows, ["warm"], [], rows["at"])
    window = Window(profile_of(rows.tail(int(720 * span)), reference.layout), span)
    found = compare(reference, window, DriftLimits())
    assert (found.verdict != "no verdict") == judged
    assert ("state whole days (monitor.window_days)" in found.reason) != judged


@pytest.mark.parametrize(("every", "span"), [(7, 10), (30, 30), (30, 45)])
def test_rows_that_come_in_loads_are_no_drift(every, span):
    """Each load is a little other than the one before, and a window has one of them, or two, as its first day will have it."""
    rng, loads = np.random.default_rng(1), 34
    day = np.repeat(np.arange(loads) * every, 400)
    value = rng.normal(0, 0.5, loads).repeat(400) + rng.normal(0, 1, len(day))
    frame, times = pd.DataFrame({"value": value}), pd.Series(START + pd.to_timedelta(day, unit="D"))
    learnt = day < 26 * every
    reference = reference_of(frame[learnt], ["value"], [], times[learnt])
    verdicts = set()
    for first in range(26 * every, 32 * every, every // 3):
        now = frame[(day >= first) & (day < first + span)]
        start = (START + pd.Timedelta(days=first)).date()
        window = Window(profile_of(now, reference.layout), span, start, start + timedelta(days=span))
        verdicts.add(compare(reference, window, DriftLimits()).verdict)
    assert verdicts == {"no drift"}


def test_loads_a_month_are_as_many_weeks_as_have_rows():
    """A year of them has twelve loads, from which no limit is proven."""
    day = np.repeat(np.arange(12) * 30, 400)
    frame = pd.DataFrame({"value": np.random.default_rng(0).normal(0, 1, len(day))})
    reference = reference_of(frame, ["value"], [], pd.Series(START + pd.to_timedelta(day, unit="D")))
    found = compare(reference, Window(profile_of(frame[:400], reference.layout), 30), DriftLimits())
    assert found.limits.endswith("unproven: from 12 weeks, 26 are needed")
