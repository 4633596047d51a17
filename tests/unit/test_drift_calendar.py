"""Weekdays that differ make no alarm and hide none, however many days the reference and the window have."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from pipeline.monitoring.drift import Window, compare
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.monitoring.profiles.reference import Reference, reference_of
from pipeline.settings.models import DriftLimits


def stream(days, rows, weekend=2.0):
    """So many rows a day from a Monday on: `busy` is higher on weekends, `calm` never is."""
    day = np.repeat(np.arange(days), rows)
    rng = np.random.default_rng(days)
    busy = np.where(day % 7 >= 5, weekend, 0.0) + rng.normal(0, 1, len(day))
    times = pd.Series(pd.Timestamp("2020-01-06", tz="UTC") + pd.to_timedelta(day, unit="D"))
    return pd.DataFrame({"busy": busy, "calm": rng.normal(0, 1, len(day)), "day": day}), times


def looks(reference_days, span, later=21, rows=200, shift=0.0, made=None):
    """The verdict on each window of so many days after the reference; `shift` moves the column that has no weekdays."""
    frame, times = stream(reference_days + later, rows)
    learnt = (frame["day"] < reference_days).to_numpy()
    reference = (made or (lambda whole: whole))(reference_of(frame[learnt], ["busy", "calm"], [], times[learnt]))
    found = []
    for start in range(reference_days, reference_days + later - span + 1):
        of = (frame["day"] >= start) & (frame["day"] < start + span)
        now = frame[of].assign(calm=frame["calm"][of] + shift)
        first = times[of].min().date()
        window = Window(profile_of(now, reference.layout), span, first, first + timedelta(days=span))
        found.append(compare(reference, window, DriftLimits()))
    return found


@pytest.mark.parametrize("over", [3, 4, 5, 6])
def test_a_first_week_that_is_cut_off_hides_no_shift(over):
    """A shift of a fifth of a standard deviation in a column without weekdays is found beside one that has them."""
    found = looks(189 + over, 7, later=10, rows=280, shift=0.2)
    assert [[feature.feature for feature in look.moved] for look in found] == [["calm"]] * 4


@pytest.mark.parametrize("span", [8, 10, 13, 17])
def test_a_window_that_is_no_whole_weeks_is_no_drift(span):
    """It has two weekends, or one, as its first day will have it."""
    assert {look.verdict for look in looks(196, span)} == {"no drift"}


def test_days_are_compared_with_days_in_a_reference_of_years():
    """Of what was learnt longer ago weeks are kept; a weekend is no drift for all that."""
    assert {look.verdict for look in looks(7 * 123 - 2, 1, later=2)} == {"no drift"}


def test_profiles_that_have_weeks_alone_are_no_proof_for_a_day():
    """A version from before the newest days were kept says so; a window of a week is judged by it as before."""

    def by_weeks(reference):
        from pipeline.monitoring.profiles.profile import total

        days = list(reference.days)
        weeks = {at: [day for day in days if at <= day < at + timedelta(days=7)] for at in days[::7]}
        kept = {at: total((reference.days[day] for day in of), reference.layout) for at, of in weeks.items()}
        return Reference(reference.layout, kept)

    def whole(reference):
        first = min(reference.days) - timedelta(weeks=80)
        older = {first + timedelta(days=n): p for n, p in enumerate([*reference.days.values()] * 2) if n < 560}
        return by_weeks(Reference(reference.layout, {**older, **reference.days}))

    said = "unproven: the version's profiles are of whole weeks, and the window is of days"
    assert looks(280, 1, later=1, made=whole)[0].limits.endswith(said)
    (week,) = looks(280, 7, later=7, made=whole)
    assert (week.verdict, "unproven" in week.limits) == ("no drift", False)


@pytest.mark.parametrize(("rows", "found"), [(200, "no verdict"), (2000, "drift")])
def test_values_that_are_seldom_may_be_none_by_chance(rows, found):
    """Of 200 rows with a value in 1.5 % one window in twenty has none, which tells nothing; of 2,000 each has some."""
    frame, times = stream(196, 200)
    seldom = np.where(np.random.default_rng(1).random(len(frame)) < 0.015, frame["calm"], np.nan)
    reference = reference_of(frame.assign(calm=seldom), ["calm"], [], times)
    now = frame.head(rows).assign(calm=np.nan)
    assert compare(reference, Window(profile_of(now, reference.layout), 7), DriftLimits()).verdict == found
