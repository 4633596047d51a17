"""A look adds up kept profiles of the log's files: they say what the rows say, and a row is counted once."""

import json
import sqlite3
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.project import change_params
from pipeline.monitoring import answer_profile, answer_shift, live_quality, log_profiles
from pipeline.monitoring.log_profiles import LoggedProfile, logged_profile
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.monitoring.profiles.kept import Answered, Kept
from pipeline.monitoring.profiles.layout import layout_of
from pipeline.runs import drift_check
from pipeline.serving import log_files
from pipeline.settings.models import load
from tests.support.monitored import Monitored
from tests.support.monitored import at as at_day

START = datetime(2024, 2, 1, tzinfo=UTC)
LEARNT = {"plan": frozenset({"basic", "plus"})}


def at(hours):
    return START + timedelta(hours=hours)


def table(seed, rows=300):
    """Requests of two days, a few of them golden, without an event time, or with values that are no number and no known plan."""
    random = np.random.default_rng(seed)
    times = [at(hours).isoformat() for hours in random.uniform(0, 48, rows)]
    times[:3] = [None, "infinity", "no time"]
    spend = random.normal(10, 3, rows)
    spend[:2] = [np.nan, np.inf]
    plans = random.choice(["basic", "plus", "gold", None], rows)
    features = [
        {"spend": s, "calls": float(c), "plan": p}
        for s, c, p in zip(spend, random.integers(0, 9, rows), plans, strict=True)
    ]
    columns = {
        "request_id": [f"{seed}-{i // 2}" for i in range(rows)],
        "key": [f"c{i}" for i in range(rows)],
        "prediction": random.uniform(0, 1, rows),
        "received_at": pa.array([at(20.5)] * rows, pa.timestamp("ms", tz="UTC")),
        "event_time": times,
        "version": ["1"] * rows,
        "slot": ["blue"] * rows,
        "golden": [i % 50 == 7 for i in range(rows)],
        "features": features,
    }
    return pa.table(columns)


class Log:
    """A prediction log of three files of one process, and the kept profiles of it."""

    def __init__(self, project, folder):
        self.folder, self.model = folder / "log", load(project).model("churn")
        self.folder.mkdir()
        self.parts = [table(seed) for seed in range(3)]
        for number, part in enumerate(self.parts):
            self.write(part, number, number)
        rows = live_quality.predictions(self.folder, self.model, START, at(48))
        self.layout = layout_of(rows[rows["plan"] != "gold"], ["spend", "calls"], ["plan"])
        self.kept = Kept(folder / "kept" / "churn.db", self.layout, LEARNT)

    def write(self, rows, first, last):
        pq.write_table(rows, self.folder / log_files.file_name("blue-v1-1", first, last))

    def read(self, start, end):
        """What the rows themselves say."""
        log = live_quality.read_log(self.folder, self.model, start, end)
        return LoggedProfile(profile_of(log.rows, self.layout, LEARNT), log.logged, log.without_event_time).as_dict()

    def look(self, start, end, kept=None):
        return logged_profile(self.folder, kept or self.kept, start, end).as_dict()


@pytest.fixture
def log(project, tmp_path):
    return Log(project, tmp_path)


SPANS = [(0, 48), (6, 30), (6.25, 30.75), (20.2, 20.7), (20.9, 21.1), (47.5, 90), (-9, 0.5), (100, 200)]


@pytest.mark.parametrize(("first", "last"), SPANS)
def test_kept_profiles_say_what_the_rows_say(log, first, last):
    """Of any span, of whole hours or not, at the first look and at the second."""
    assert log.look(at(first), at(last)) == log.read(at(first), at(last)) == log.look(at(first), at(last))


def test_a_row_is_counted_once(log, monkeypatch):
    """A later look at whole hours reads none again, and of a log with a new file those of that one alone."""
    counted, profiles = [], log_profiles.profiles

    def noting(connection, relation, *more):
        counted.append(connection.execute(f"SELECT count(*) FROM {relation}").fetchone()[0])
        return profiles(connection, relation, *more)

    monkeypatch.setattr(log_profiles, "profiles", noting)
    log.look(at(6), at(30))
    log.look(at(0), at(40))
    assert counted == [3 * 294]
    log.write(table(9), 3, 3)
    assert (log.look(at(0), at(40)), counted) == (log.read(at(0), at(40)), [3 * 294, 294])


def test_a_merged_file_takes_the_place_of_its_parts(log):
    """No row counts twice or is lost, whether the parts are still there or not."""
    expected = log.look(at(6), at(30))
    log.write(pa.concat_tables(log.parts), 0, 2)
    assert log.look(at(6), at(30)) == expected
    for number in range(3):
        (log.folder / log_files.file_name("blue-v1-1", number, number)).unlink()
    assert log.look(at(6), at(30)) == expected


def test_a_file_with_other_rows_under_its_name_is_counted_anew(log):
    """A profile is kept by what it was counted from, and not by a name."""
    log.look(at(6), at(30))
    log.write(table(7, 290), 0, 0)
    assert log.look(at(6), at(30)) == log.read(at(6), at(30))


def test_a_profile_belongs_to_its_edges(log, tmp_path):
    """Another reference's buckets, or other known categories, make another profile; the first one's are counted anew afterwards."""
    expected = log.look(at(6), at(30))
    wider = layout_of(pd.DataFrame({"spend": np.linspace(0, 99, 500)}), ["spend"], [])
    found = log.look(at(6), at(30), Kept(tmp_path / "kept" / "churn.db", wider, {}))
    assert len(found["cells"]["spend"]) == wider.columns[0].cells and {*found["cells"]} == {"spend"}
    known = log.look(at(6), at(30), Kept(tmp_path / "kept" / "churn.db", log.layout, {"plan": {"gold"}}))
    assert known["cells"]["plan"] != expected["cells"]["plan"]
    assert log.look(at(6), at(30)) == expected


def test_a_broken_file_of_kept_profiles_is_made_anew(log, tmp_path):
    """Kept profiles may be lost: the rows are there."""
    expected = log.look(at(6), at(30))
    (tmp_path / "kept" / "churn.db").write_text("somebody's notes, and no database at all" * 99)
    assert log.look(at(6), at(30)) == expected


def test_a_share_of_the_log_is_the_same_rows_each_time(log):
    """About so many, of all files, and of requests of one row as of others."""
    sampled = [live_quality.read_log(log.folder, log.model, START, at(48), 0.3).rows for _ in range(2)]
    pd.testing.assert_frame_equal(*sampled)
    every = live_quality.predictions(log.folder, log.model, START, at(48))
    assert 0.2 * len(every) < len(sampled[0]) < 0.4 * len(every)


def test_a_look_counts_all_requests_where_it_reads_a_share_of_them(
    project, monkeypatch, ledger, churn_artifacts, tmp_path
):
    """The verdict is of all requests, and live quality of all labels; only what people look at is of a sample."""
    change_params(project, "models.churn.monitor.min_rows", 20)
    monitored = Monitored(project, ledger, churn_artifacts, tmp_path / "home", 0)
    whole = monitored.check(at_day(15))
    monkeypatch.setattr(drift_check, "SAMPLE_ROWS", 50)
    sampled = monitored.check(at_day(15))
    assert sampled.drift.rows_now == whole.drift.rows_now > 100
    assert sampled.live_quality == whole.live_quality
    assert sampled.asked_outside_window == whole.asked_outside_window


def classes_of(table):
    """The table as of a model with classes: the likeliest one, and the probabilities of all."""
    first = np.clip(table["prediction"].to_numpy(), 0.01, 0.99)
    shares = np.column_stack([first, (1 - first) * 0.7, (1 - first) * 0.3])
    likeliest = pa.array(np.array(["a", "b", "c"])[shares.argmax(axis=1)])
    return table.append_column("class", likeliest).append_column("probabilities", pa.array(shares.tolist()))


@pytest.mark.parametrize("classes", [(), ("a", "b", "c")])
@pytest.mark.parametrize("since", ["", at(30).isoformat()])
def test_the_answers_of_a_window_are_a_sum_of_kept_profiles(log, tmp_path, classes, since):
    """Those of one version alone, since its number is its own; from before the column, and of other versions, none is counted."""
    log.write(table(11).drop_columns("version").append_column("version", pa.array(["2"] * 300)), 3, 3)
    later = table(12).drop_columns("received_at")
    log.write(later.append_column("received_at", pa.array([at(31)] * 300, pa.timestamp("ms", tz="UTC"))), 4, 4)
    for path in log_files.listed(log.folder).files if classes else ():
        pq.write_table(classes_of(pq.read_table(path)), path)
    rows = live_quality.predictions(log.folder, log.model, START, at(48))
    held_out = answer_shift.held_out_answers(rows.head(700), classes)
    layout = answer_profile.with_answers(log.layout, held_out, classes)
    kept = Kept(tmp_path / "kept" / "churn.db", layout, LEARNT, Answered("1", "d", since))
    own = rows[(rows["version"] == "1") & (rows["received_at"] >= pd.Timestamp(since or START))]
    for _ in range(2):
        found = LoggedProfile.read(json.loads(json.dumps(logged_profile(log.folder, kept, START, at(48)).as_dict())))
        shift = answer_shift.counted_shift(found.profile, found.answers, held_out, classes)
        assert shift.as_dict() == pytest.approx(answer_shift.shift(own, held_out, classes).as_dict())
    assert answer_shift.counted_shift(log.kept.window([], 0, 0, []).counted.profile, 0.0, held_out, classes) is None


def test_profiles_of_an_earlier_form_are_counted_anew(log):
    """The file of before the answers has other tables; nothing of it is mixed in, and what it had is counted once more."""
    with sqlite3.connect(log.folder.parent / "kept" / "churn.db") as old:
        old.execute("CREATE TABLE partition (edges TEXT, partition TEXT)")
        old.execute("CREATE TABLE profile (edges TEXT, partition TEXT, hour INTEGER, rows INTEGER, cells BLOB)")
        old.execute("INSERT INTO partition VALUES ('e', 'p')")
    assert log.look(at(6), at(30)) == log.read(at(6), at(30))
    with sqlite3.connect(log.folder.parent / "kept" / "churn.db") as new:
        assert {name for (name,) in new.execute("SELECT name FROM sqlite_master")} == {"counted", "hours"}
