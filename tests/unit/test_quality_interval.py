"""A live metric has an interval, and answers got worse only where all of it says so."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from harness.project import CHURN
from pipeline.monitoring import live_quality
from pipeline.monitoring.drift import DriftVerdict
from pipeline.monitoring.live_quality import LiveQuality, got_worse
from pipeline.monitoring.quality_interval import interval
from pipeline.policy.retrain import decide, interval_said
from pipeline.settings.models import Model

MODEL = Model.model_validate(CHURN)


@pytest.mark.parametrize("days", [3, 7, 28])
def test_the_interval_has_the_true_metric_as_often_as_it_says(days):
    """Rows of a day go together, and days have unlike numbers of rows; an interval of single rows would have it in one case of three."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(400):
        day = np.repeat(np.arange(days), rng.integers(20, 120, days))
        rows = rng.normal(0, 0.5, days)[day] + rng.normal(0, 1, len(day))
        low, high = interval(lambda chosen, rows=rows: float(rows[chosen].mean()), day)
        held += low <= 0 <= high
    assert 0.92 <= held / 400 <= 0.98


def test_of_equal_days_it_is_students_interval_of_their_means():
    """For a mean the days' own means say it all."""
    rng = np.random.default_rng(2)
    rows, day = rng.normal(5, 1, 60), np.repeat(np.arange(6), 10)
    means = rows.reshape(6, 10).mean(axis=1)
    half = 2.5706 * means.std(ddof=1) / np.sqrt(6)
    found = interval(lambda chosen: float(rows[chosen].mean()), day)
    assert found == pytest.approx((means.mean() - half, means.mean() + half), rel=1e-5)
    assert interval(lambda chosen: float(rows[chosen].mean()), day, largest=5.0)[1] == 5.0


def test_too_few_days_or_a_day_that_decides_have_no_interval():
    """Two days say nothing of how days differ; nor does a day without which there is no metric."""
    assert interval(lambda chosen: 1.0, np.repeat([1, 2], 50)) is None
    assert interval(lambda chosen: 1.0 if chosen[0] else np.nan, np.repeat([1, 2, 3], 50)) is None


def test_many_days_are_left_out_several_together():
    """A window of a year takes no more evaluations than one of a month."""
    asked = []
    interval(lambda chosen: float(asked.append(chosen.sum()) or 0), np.repeat(np.arange(365), 2))
    assert (len(asked), min(asked)) == (30, 2 * (365 - 13)) and asked[0] == 2 * 365


def answers(rows, days):
    """So many answers on so many days, of which a quarter is wrong, and their labels."""
    rng = np.random.default_rng(3)
    at = pd.Timestamp("2024-02-01", tz="UTC") + pd.to_timedelta(np.arange(rows) * days / rows, unit="D")
    target = rng.integers(0, 2, rows).astype(float)
    asked = pd.DataFrame({"key": [f"c{i}" for i in range(rows)], "event_time": at})
    prediction = np.where(rng.random(rows) < 0.25, 1 - target, target) * 0.8 + 0.1
    return asked.assign(prediction=prediction), asked.assign(target=target, known=at)


def test_live_quality_has_its_interval_by_the_days_of_its_answers():
    """The same rows give the same interval; on two days it has none, and says of how many."""
    asked, labels = answers(1400, 7)
    found = live_quality.quality(asked, labels, MODEL, 0.8)
    assert found.low < found.value < found.high < 1 and found.days == 7
    assert found == live_quality.quality(asked, labels, MODEL, 0.8)
    assert found.as_dict()["low"] == found.low
    few = live_quality.quality(*answers(1400, 2), MODEL, 0.8)
    assert (few.low, few.high, few.days) == (None, None, 2) and "low" not in few.as_dict()
    assert interval_said(few, MODEL.monitor) == "; no interval of 2 days of answers, 3 required, so no drop is proven"


@pytest.mark.parametrize(
    ("value", "low", "high", "worse"),
    [
        (0.7, 0.66, 0.74, True),
        (0.7, 0.64, 0.76, None),
        (0.76, 0.72, 0.80, False),
        (0.7, None, None, None),
        (None, None, None, None),
    ],
)
def test_worse_is_what_the_whole_interval_says(value, low, high, worse):
    """More than monitor.quality_drop (0.05) below 0.8 at its worst and at its best; a drop that may be chance is not known."""
    quality = LiveQuality("roc_auc", value, 0.8, 5000, 6000, low=low, high=high, days=7)
    assert got_worse(quality, 0.05) is worse
    # Of an error the low end is the better one.
    if value is not None and low is not None:
        mirrored = LiveQuality("log_loss", 1 - value, 0.2, 5000, 6000, low=1 - high, high=1 - low, days=7)
        assert got_worse(mirrored, 0.05) is worse


def test_an_unproven_drop_retrains_nothing_and_says_so(settings):
    """The receipt has the interval."""
    calm = DriftVerdict("no drift", "0 of 2 features moved", 5000, 5000)
    quality = LiveQuality("roc_auc", 0.7, 0.8, 5000, 6000, low=0.64, high=0.76, days=7)
    receipt = decide(calm, quality, settings.model("churn").monitor)
    assert receipt.decision == "wait"
    assert receipt.reasons[1].endswith(
        "; 95% interval 0.6400 to 0.7600 by 7 days, which leaves a drop over the limit unproven"
    )
