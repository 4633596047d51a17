"""A label belongs to the answer to its key at its time; which answer counts depends on no order of rows."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from pipeline.monitoring.label_join import at_other_times, with_labels

MINUTE = timedelta(seconds=60)
DAY = pd.Timestamp("2024-02-01", tz="UTC")


def answers(*rows):
    """(key, hours after DAY or None, prediction), in the order of their arrival."""
    return pd.DataFrame(
        {
            "key": [key for key, _, _ in rows],
            "event_time": [DAY + pd.Timedelta(hours=99 if at is None else at) for _, at, _ in rows],
            "timed": [at is not None for _, at, _ in rows],
            "prediction": [prediction for _, _, prediction in rows],
        }
    )


def labels(*rows):
    """(key, hours after DAY, target)."""
    times = [DAY + pd.Timedelta(hours=at) for _, at, _ in rows]
    targets = [float(target) for _, _, target in rows]
    return pd.DataFrame({"key": [key for key, _, _ in rows], "event_time": times, "target": targets, "known": times})


@pytest.mark.parametrize(
    ("asked", "known", "expected"),
    [
        # A customer who comes again every third day.
        ([("a", 0, 0.1), ("a", 72, 0.9)], [("a", 0, 0), ("a", 72, 1)], [(0.1, 0), (0.9, 1)]),
        # Asked twice about one row: the first answer counts.
        ([("a", 0, 0.1), ("a", 0, 0.9)], [("a", 0, 1)], [(0.1, 1)]),
        # Twice within the tolerance: the nearest.
        ([("a", -0.01, 0.1), ("a", 0, 0.9)], [("a", 0, 1)], [(0.9, 1)]),
        # Not at its time.
        ([("a", 1, 0.1)], [("a", 0, 1)], []),
        # Without a time: by the key alone, where that has one label.
        ([("a", None, 0.1)], [("a", 0, 1)], [(0.1, 1)]),
        ([("a", None, 0.1), ("a", None, 0.2)], [("a", 0, 1)], [(0.1, 1)]),
        ([("a", None, 0.1)], [("a", 0, 1), ("a", 72, 0)], []),
        ([("a", None, 0.1), ("a", 0, 0.9)], [("a", 0, 1)], [(0.9, 1)]),
        # A row that the source has twice has one label.
        ([("a", 0, 0.1)], [("a", 0, 1), ("a", 0, 1)], [(0.1, 1)]),
        ([(None, 0, 0.1)], [("a", 0, 1)], []),
        ([], [("a", 0, 1)], []),
        ([("a", 0, 0.1)], [], []),
    ],
)
def test_each_label_goes_to_the_answer_of_its_time(asked, known, expected):
    """Key and event time say which answer a label judges, in any order of the labels."""
    for order in (known, known[::-1]):
        joined = with_labels(answers(*asked), labels(*order), MINUTE)
        assert list(zip(joined["prediction"], joined["target"], strict=True)) == expected


def test_the_quality_of_customers_that_come_again_is_the_true_one():
    """Of 400 customers who are scored every third day each answer is judged by its own label, whatever the order of the source."""
    rng = np.random.default_rng(1)
    rows = [(f"c{i}", day * 72, rng.random()) for i in range(400) for day in range(5)]
    known = [(key, at, p > 0.5) for key, at, p in rows]
    shuffled = [known[i] for i in rng.permutation(len(known))]
    joined = with_labels(answers(*rows), labels(*shuffled), MINUTE)
    assert len(joined) == 2000
    assert ((joined["prediction"] > 0.5) == (joined["target"] > 0)).all()


def test_answers_at_other_times_are_counted():
    """Labels of a key that are at no answer's time are said, as they look like labels that have not come."""
    asked = answers(("a", 5, 0.1), ("b", 0, 0.2), ("c", 0, 0.3), ("a", None, 0.4))
    assert at_other_times(asked, labels(("a", 0, 1), ("b", 0, 1)), MINUTE) == 1
