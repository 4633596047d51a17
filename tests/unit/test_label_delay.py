"""The label delay is that of the labels known at the as-of, measured where nearly all of them have come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pandas as pd
import pytest

from harness.project import CHURN
from pipeline.data import source
from pipeline.data.label_delay import LEAST_ROWS, LabelDelay, duration, measured
from pipeline.ledger import label_delays
from pipeline.ledger.events import DataLanded
from pipeline.settings.models import Model

END = datetime(2024, 3, 1, tzinfo=UTC)
START = END - timedelta(days=30)
DAY = 86_400
MODEL = Model.model_validate(CHURN)


def delay_of(delays_s, start=START, end=END, label_time="decided_at", shuffled=False):
    """The delay measured over rows that are spread evenly over [start, end), of which those with a label by `end` are left."""
    rows = len(delays_s)
    seen = pd.Timestamp(start) + pd.to_timedelta(np.arange(rows) * ((end - start).total_seconds() / rows), unit="s")
    frame = pd.DataFrame({"seen_at": seen, "left": 1.0})
    frame["decided_at"] = (frame["seen_at"] + pd.to_timedelta(np.asarray(delays_s), unit="s")).dt.as_unit("us")
    known = frame[~(frame["decided_at"] > end)]
    return of_rows(known.sample(frac=1, random_state=3) if shuffled else known, start, end, label_time)


def of_rows(frame, start=START, end=END, label_time="decided_at"):
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("given", frame)
        connection.execute("CREATE TABLE rows AS SELECT * FROM given")
        settings = MODEL.source.model_copy(update={"label_time": label_time})
        return measured(connection, settings, "left", start, end)


def test_a_known_delay_is_measured_whatever_the_order_of_the_rows():
    """Labels that come after two days in nine of ten cases, and after five days else."""
    delays = [5 * DAY if row % 10 == 9 else 2 * DAY for row in range(3000)]
    expected = LabelDelay(2 * DAY, 5 * DAY)
    assert delay_of(delays) == delay_of(delays, shuffled=True) == expected


def test_the_young_half_in_which_only_quick_labels_are_known_does_not_count():
    """Half of the labels come at once and half after twelve days: over all known labels the median would be nothing."""
    delays = [12 * DAY if row % 2 else 60 for row in range(3000)]
    assert delay_of(delays) == LabelDelay(60, 12 * DAY)
    mostly_slow = [60 if row % 5 in (0, 1) else 14 * DAY for row in range(3000)]
    assert delay_of(mostly_slow) == LabelDelay(14 * DAY, 14 * DAY)


def test_a_long_tail_moves_the_95_percent_and_not_the_median():
    """One label in ten takes up to a fortnight."""
    rng = np.random.default_rng(1)
    delays = np.where(rng.random(6000) < 0.1, rng.uniform(5, 14, 6000) * DAY, 3600)
    found = delay_of(delays)
    assert found.median_s == 3600
    assert 7 * DAY < found.p95_s < 12 * DAY


def test_a_label_that_was_known_before_its_row_is_known_at_once():
    """A delay is never negative: a flight that was cancelled in the morning is known to be late before its departure."""
    assert delay_of([-5 * DAY] * 3000) == LabelDelay(0, 0)
    assert delay_of([-DAY if row % 3 else 7200 for row in range(3000)]) == LabelDelay(0, 7200)


@pytest.mark.parametrize("as_of", [END, END + timedelta(days=20)])
def test_labels_that_all_come_on_the_first_of_a_month(as_of):
    """A batch has delays from nothing to a month; where the window's half ends within a month changes the median by some days."""
    start = as_of - timedelta(days=90)
    seen = pd.Series(pd.date_range(start, as_of, freq="h", inclusive="left", tz="UTC")).dt.as_unit("us")
    batch = (seen.dt.tz_localize(None) + pd.offsets.MonthBegin(1)).dt.normalize().dt.tz_localize("UTC").dt.as_unit("us")
    frame = pd.DataFrame({"seen_at": seen, "decided_at": batch, "left": 0.0})
    found = of_rows(frame[frame["decided_at"] <= as_of], start, as_of)
    assert found.median_s / DAY == pytest.approx(15.5, abs=4)
    assert found.p95_s / DAY == pytest.approx(29.5, abs=1)


def test_an_as_of_long_after_the_rows_measures_all_labels():
    """Where the window has no young rows, and each label has come, the delay is that of all."""
    late = END + timedelta(days=60)
    seen = pd.date_range(START, END, periods=3000, inclusive="left", tz="UTC").as_unit("us")
    frame = pd.DataFrame({"seen_at": seen, "decided_at": (seen + pd.Timedelta(days=40)).as_unit("us"), "left": 1.0})
    assert of_rows(frame, late - timedelta(days=90), late) == LabelDelay(40 * DAY, 40 * DAY)


def test_a_date_as_label_time_is_the_end_of_that_day():
    """A label of the row's own day is known when that day ends, so that a row at midnight waits a whole day for it."""
    seen = pd.date_range(START, END, freq="D", inclusive="left", tz="UTC").as_unit("us")
    frame = pd.DataFrame({"customer": "c", "seen_at": np.repeat(seen, 3), "left": 1.0})
    frame["decided_at"] = frame["seen_at"].dt.date
    settings = MODEL.source.model_copy(update={"query": None, "hook": "given:rows"})
    with duckdb.connect() as connection, pytest.MonkeyPatch.context() as given:
        given.setattr(source, "_frame", lambda *_: frame)
        connection.execute("SET TimeZone = 'UTC'")
        source.load(connection, settings, MODEL.training, START, END, "churn")
        assert measured(connection, settings, "left", START, END) == LabelDelay(DAY, DAY)


def test_too_few_labelled_rows_say_that_it_is_not_known():
    """The slowest twentieth of nineteen rows is none; without label times there is no delay at all."""
    assert delay_of([3600] * (LEAST_ROWS * 2 - 2)) == LabelDelay(None, None)
    assert delay_of([3600] * (LEAST_ROWS * 2)) == LabelDelay(3600, 3600)
    assert delay_of([20 * DAY] * 15) == LabelDelay(None, None)
    assert delay_of([3600] * 3000, label_time=None) is None
    assert str(LabelDelay()).startswith("label delay not known: fewer than 20 labelled rows")


def test_rows_whose_label_could_not_be_read_do_not_count():
    """A row without a label, or without its time, has no delay."""
    seen = pd.date_range(START, END, periods=3000, inclusive="left", tz="UTC").as_unit("us")
    frame = pd.DataFrame({"seen_at": seen, "decided_at": (seen + pd.Timedelta(hours=1)).as_unit("us"), "left": 1.0})
    frame.loc[::2, "decided_at"] += pd.Timedelta(days=9)
    frame.loc[::4, "left"] = np.nan
    frame.loc[2::4, "decided_at"] = pd.NaT
    assert of_rows(frame) == LabelDelay(3600, 3600)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59, "59 s"), (60, "1 minute"), (5400, "1.5 hours"), (DAY, "1 day"), (1000 * DAY, "1,000 days")],
)
def test_a_length_of_time_is_said_in_its_largest_unit(seconds, said):
    """Seconds, minutes, hours or days, with one digit after the point where it counts."""
    assert duration(seconds) == said


def landed(ledger, as_of, delay):
    body = {"data_version": "d", "as_of": as_of, "partitions": 1}
    ledger.append(DataLanded.read(body | ({"label_delay_s": delay} if delay else {})), "churn")


def test_an_as_of_is_judged_by_what_was_measured_by_then(ledger):
    """Of the as-ofs up to this one the newest counts, in whatever order the runs came, and none that was too short to measure."""
    assert label_delays.newest(ledger, "churn") is None
    landed(ledger, "2024-02-01T00:00:00+00:00", {"median": 1, "p95": 2})
    landed(ledger, "2024-04-01T00:00:00+00:00", {"median": 7, "p95": 8})
    landed(ledger, "2024-03-01T01:00:00+01:00", {"median": 3, "p95": 4})
    landed(ledger, "2024-02-20T00:00:00+00:00", None)
    landed(ledger, "2024-02-25T00:00:00+00:00", {"median": None, "p95": None})
    assert label_delays.known_at(ledger, "churn", END) == LabelDelay(3, 4)
    assert label_delays.known_at(ledger, "churn", END - timedelta(seconds=1)) == LabelDelay(1, 2)
    assert label_delays.known_at(ledger, "churn", START - timedelta(days=9)) is None
    landed(ledger, "2024-03-01T00:00:00+00:00", {"median": 5, "p95": 6})
    assert label_delays.known_at(ledger, "churn", END) == LabelDelay(5, 6), "the last one of the same as-of"
    assert label_delays.newest(ledger, "churn") == LabelDelay(7, 8)
    assert label_delays.newest(ledger, "other") is None
