"""The chance of a reference week's few rows is no part of the limits of a window that has many."""

import numpy as np
import pandas as pd
import pytest

from pipeline.monitoring import week_noise
from pipeline.monitoring.drift import Window, compare
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.monitoring.profiles.reference import reference_of
from pipeline.settings.models import DriftLimits

SHARES = np.array([0.1, 0.2, 0.3, 0.4, 0.0])


def weeks(rows, apart, count=400, seed=1):
    """Counts of weeks whose true shares lie apart with that rho (Dirichlet), (weeks, cells)."""
    random = np.random.default_rng(seed)
    true = np.tile(SHARES, (count, 1))
    if apart:
        true[:, :4] = random.dirichlet(SHARES[:4] * (1 / apart - 1), count)
    return np.array([random.multinomial(rows, share) for share in true]).astype(float)


@pytest.mark.parametrize("apart", [0.0, 0.01, 0.1])
@pytest.mark.parametrize("rows", [50, 500])
def test_what_weeks_differ_by_is_told_from_the_chance_of_their_rows(rows, apart):
    """The estimate is near the truth, and its error on the wide side."""
    found = week_noise.between(weeks(rows, apart))[:4]
    assert np.all(found >= apart * 0.85) and np.all(found <= apart * 1.35 + 0.3 / rows)


@pytest.mark.parametrize("apart", [0.0, 0.02])
def test_a_draw_is_as_far_from_the_whole_as_a_window_of_so_many_rows(apart):
    """The variance of each cell is that of weeks that have the window's rows, and of fewer rows nothing is taken."""
    few, many = weeks(100, apart), weeks(3_000, apart, seed=2)
    times = np.eye(len(few))
    drawn = week_noise.at_size(few, few, times, 3_000)
    there, before, now = ((of / of.sum(axis=1, keepdims=True))[:, :4].std(axis=0) for of in (many, few, drawn))
    assert np.all(now >= 0.9 * there) and np.all(now <= 2.5 * there) and np.all(now < 0.95 * before)
    assert np.all(drawn >= 0) and drawn[:, 4].sum() == 0
    assert week_noise.at_size(few, few, times, 100) is few and week_noise.at_size(few, few, times, 60) is few


def test_a_week_without_values_lacks_them_with_more_rows_too():
    """Where half of the weeks lack a category, one more week that lacks it is as far from the whole as those, and no further."""
    half = weeks(100, 0.0)
    half[::2, 2:4] += half[::2, :2]
    half[::2, :2] = 0
    drawn = week_noise.at_size(half, half, np.eye(len(half)), 3_000)
    assert np.all(drawn[::2, :2] == 0) and np.all(drawn[1::2, :2] > 0)
    chance = week_noise.at_size(weeks(20, 0.0), weeks(20, 0.0), np.eye(400), 500)
    assert np.all(chance[:, :4] > 0)


def test_empty_weeks_and_cells_end_nothing():
    """A draw without rows stays empty, and a column without values has no chance to take out."""
    few = weeks(20, 0.0, 30)
    few[3] = 0
    drawn = week_noise.at_size(few, few, np.eye(30), 500)
    assert np.isfinite(drawn).all() and drawn[3].sum() == 0
    assert np.all(week_noise.between(np.zeros((30, 5))) == 1)


def test_a_shift_is_found_in_a_window_that_is_larger_than_the_reference_weeks():
    """With the chance of 100 rows in the limit it was calm; a quiet window still is."""
    random = np.random.default_rng(5)
    before = pd.DataFrame({"spend": random.normal(size=2_600)})
    times = pd.Series(pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.arange(2_600) * 0.07, "D"))
    reference = reference_of(before, ["spend"], [], times)
    quiet = pd.DataFrame({"spend": random.normal(size=5_000)})

    def verdict(rows):
        return compare(reference, Window(profile_of(rows, reference.layout), 7), DriftLimits(), 91).verdict

    assert (verdict(quiet), verdict(quiet + 0.5)) == ("no drift", "drift")
