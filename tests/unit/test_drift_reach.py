"""Faults of units, columns and clocks are found in columns that differ from week to week by themselves, and no limit is out of reach."""

import numpy as np
import pandas as pd
import pytest

from pipeline.monitoring.drift import Window, compare
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.monitoring.profiles.layout import Layout
from pipeline.monitoring.profiles.reference import reference_of
from pipeline.settings.models import DriftLimits

NUMERIC = ["temp", "dewp", "gust", "hour"]
ROWS_A_WEEK = 700


def season(weeks):
    """A year's weather: two temperatures in Fahrenheit that go together, and gusts that some weeks hardly have; hours and carriers do not change."""
    rng = np.random.default_rng(weeks[0])
    week = np.repeat(weeks, ROWS_A_WEEK)
    rows = len(week)
    temp = (
        55
        - 30 * np.cos(2 * np.pi * week / 52)
        + rng.normal(0, 6, len(weeks)).repeat(ROWS_A_WEEK)
        + rng.normal(0, 4, rows)
    )
    windy = np.where(week % 6 == 0, 0.7, 0.1)
    return pd.DataFrame(
        {
            # A week in which 3 % of the rows lack it widened the limits of all columns.
            "temp": np.where((week == 7) & (rng.random(rows) < 0.03), np.nan, temp),
            "dewp": temp - 2 - rng.gamma(4, 3, rows),
            "gust": np.where(rng.random(rows) < windy, rng.normal(30, 8, rows), np.nan),
            "hour": rng.choice([6.0, 8, 9, 12, 16, 17, 18, 21], rows, p=[0.1, 0.2, 0.1, 0.1, 0.1, 0.2, 0.1, 0.1]),
            "carrier": rng.choice(["AA", "B6", "UA"], rows),
        }
    )


@pytest.fixture(scope="module")
def reference():
    """Of 52 weeks."""
    times = pd.Series(
        pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.arange(52 * ROWS_A_WEEK) * 7 / ROWS_A_WEEK, "D")
    )
    # As a look at a model takes it.
    return reference_of(season(range(52)), NUMERIC, ["carrier"], times).only([*NUMERIC, "carrier"])


def judged(reference, now):
    return compare(reference, Window(profile_of(now, reference.layout), 7), DriftLimits())


def summer():
    """The first weeks of July of the next year, whose Celsius are a winter's Fahrenheit."""
    return season(range(78, 81))


FAULTS = {
    "another unit": (lambda rows: rows.assign(temp=rows["temp"] * 60), "temp"),
    "Celsius for Fahrenheit": (lambda rows: rows.assign(temp=(rows["temp"] - 32) / 1.8), "temp minus dewp"),
    "swapped columns": (lambda rows: rows.assign(temp=rows["dewp"], dewp=rows["temp"]), "temp minus dewp"),
    "all nulls": (lambda rows: rows.assign(gust=np.nan), "gust"),
    "category renamed": (lambda rows: rows.assign(carrier=rows["carrier"].replace("B6", "JetBlue")), "carrier"),
    "clock an hour off": (lambda rows: rows.assign(hour=(rows["hour"] + 1) % 24), "hour"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_at_the_first_look(reference, fault):
    """Whatever the seasons do to a column, the fault is found in 2,100 rows, and the feature that shows it is named."""
    change, named = FAULTS[fault]
    verdict = judged(reference, change(summer()))
    assert verdict.verdict == "drift"
    assert named in [feature.feature for feature in verdict.moved]


def test_weeks_of_a_second_year_are_calm(reference):
    """The same seasons without a fault are no drift, in the differences neither."""
    verdicts = [judged(reference, season(range(start, start + 3))).verdict for start in range(52, 104, 9)]
    assert verdicts == ["no drift"] * len(verdicts)


def test_a_limit_that_nothing_can_reach_is_no_verdict():
    """A stated PSI that no window of the column can have leaves it without a verdict, with the reason, and is never calm."""
    rows = pd.DataFrame({"kind": np.random.default_rng(1).choice(list("abc"), 3000)})
    reference = reference_of(rows.assign(kind=rows["kind"].mask(rows.index % 300 == 0, "rare")), [], ["kind"], None)
    window = Window(profile_of(rows, reference.layout))
    verdict = compare(reference, window, DriftLimits(psi_limit=50))
    assert verdict.verdict == "no verdict"
    assert "no verdict on kind: PSI can be at most" in verdict.reason


def test_a_layout_from_before_differences_has_none(reference):
    """A reference that is kept is read as it was counted."""
    values = reference.layout.as_dict()
    for column in values["columns"]:
        column.pop("of")
    kept = [column for column in values["columns"] if column["name"] != "temp minus dewp"]
    assert [c.name for c in Layout.read({**values, "columns": kept}).columns] == [*NUMERIC, "carrier"]
    assert [c.of for c in reference.layout.columns if c.of] == [("temp", "dewp")]


def test_a_difference_goes_with_its_columns(reference):
    """Without one of its columns it is not there."""
    assert [c.name for c in reference.layout.only(["dewp", "temp"]).columns] == ["dewp", "temp", "temp minus dewp"]
    assert [c.name for c in reference.layout.only(["temp"]).columns] == ["temp"]
    assert list(reference.only(["dewp", "temp"]).whole.cells) == ["dewp", "temp", "temp minus dewp"]
