"""The prediction log has the words of a text as one list a row, from which each reader gets the same counts."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline.monitoring import live_quality
from pipeline.rollout.paired import features_of
from pipeline.runs import batch_scoring
from pipeline.serving import log_files
from pipeline.serving.prediction_log import AnsweredRequest, LogSchema
from pipeline.serving.schema import Column, Reader, Schema

GROUPS = 512
COLUMNS = (Column("spend"), Column("note", "text", groups=GROUPS), Column("plan", "category"))
NOTES = ["the old man and the sea", None, "…", "The the THE", "x" * 40]
READER = Reader(Schema(COLUMNS, "customer", "seen_at"))


@pytest.fixture
def rows():
    return READER.of_records([{"spend": 1.5, "note": note, "plan": "basic"} for note in NOTES])


@pytest.fixture
def log(rows, tmp_path):
    """The folder of a log of these rows."""
    table = LogSchema(READER, "1", "blue").table([AnsweredRequest("r", 1.7e9, rows, np.zeros(len(rows)))])
    log_files.write(tmp_path / log_files.file_name("blue-v1-7.1", 0, 0), table)
    return tmp_path


def test_a_row_has_one_list_of_the_groups_of_its_words(log):
    """A repeated word is there as often as it was written, a missing text has no word, and no single group is a column."""
    (file,) = log_files.listed(log).files
    features = [row["features"] for row in pq.read_table(file).to_pylist()]
    assert list(features[0]) == ["spend", "note characters", "note words", "note word groups of 512", "plan"]
    lists = [row["note word groups of 512"] for row in features]
    assert [len(each) for each in lists] == [6, 0, 0, 3, 1] and len({*lists[3]}) == 1 and {*lists[3]} < {*lists[0]}


def test_a_comparison_reads_the_counts_that_were_asked(log, rows):
    """What a replay and a canary read is the matrix that the model was given, missing texts included."""
    (file,) = log_files.listed(log).files
    # A part of a table, as a replay takes it.
    for first in (0, 2):
        logged = features_of(pq.read_table(file).slice(first))
        matrix = np.column_stack([logged[name] for name in READER.numbers])
        assert np.array_equal(matrix, rows.numbers[first:], equal_nan=True)


def test_the_monitor_reads_the_counts_that_were_asked(settings, monkeypatch, log, rows):
    """Live quality and the watch get the same numbers; of a log without lists they are missing."""
    monkeypatch.setattr(live_quality, "schema_of", lambda _: READER.schema)
    start, end = (pd.Timestamp(time, unit="s", tz="UTC") for time in (1.6e9, 1.8e9))
    read = live_quality.predictions(log, settings.model("churn"), start, end)
    assert np.array_equal(read[READER.numbers].to_numpy("float64"), rows.numbers, equal_nan=True)
    fewer = Schema((Column("note", "text", groups=64),))
    monkeypatch.setattr(live_quality, "schema_of", lambda _: fewer)
    other = live_quality.predictions(log, settings.model("churn"), start, end)
    assert other["note word group 3 of 64"].isna().all() and other["note words"].iloc[0] == 6.0


def test_predict_takes_a_file_of_the_log(log, rows):
    """A text is scored by one that has as many words of each group."""
    (file,) = log_files.listed(log).files
    features = pq.read_table(file)["features"].combine_chunks()
    cells = batch_scoring._logged(COLUMNS[1], features, [f.name for f in features.type], READER.zone, None)
    again = READER.of_records([{"spend": 1.5, "note": note, "plan": "basic"} for note in cells.to_pylist()])
    assert np.array_equal(again.numbers, rows.numbers, equal_nan=True)
