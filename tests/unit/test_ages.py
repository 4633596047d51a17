"""The age of a time: how many days before its row's event time it lies, the same wherever a row is read."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from pipeline.rollout import paired, replay
from pipeline.runs import batch_scoring, block_scoring
from pipeline.serving.app import App
from pipeline.serving.errors import BadRequest
from pipeline.serving.identity import Identity
from pipeline.serving.intake import RECEIVED
from pipeline.serving.prediction_log import AnsweredRequest, LogSchema
from pipeline.serving.schema import Column, Reader, Rows, Schema
from pipeline.serving.schema.blocks import number_matrix
from pipeline.serving.settings import Settings
from pipeline.settings.agreement import faults
from pipeline.settings.training import Training
from pipeline.training import frames

ZONE = "Europe/Berlin"
SINCE = Column("since", "datetime", parts=("hour", "age"))
SCHEMA = Schema((Column("calls"), SINCE), "customer", "seen_at", ZONE)
READER = Reader(SCHEMA)
SEEN = "2024-03-31T12:00:00Z"
# 1 April 2024, 00:00 UTC.
RECEIVED_S = 1711929600.0


def ages(rows):
    return rows.numbers[:, READER.numbers.index("since age")].tolist()


def asked(since, seen=SEEN):
    return {"calls": 1, "since": since, "seen_at": seen}


@pytest.mark.parametrize("rows", [1, 20])
@pytest.mark.parametrize(
    ("since", "seen", "age"),
    [
        ("2024-03-30T12:00:00Z", SEEN, 1.0),
        # The night in which Berlin loses an hour.
        ("2024-03-31", "2024-04-01", 23 / 24),
        ("2024-03-31 14:00", "2024-03-31 14:00", 0.0),
        ("2024-04-02T12:00:00Z", SEEN, -2.0),
        ("2024-03-31T11:59:59.999999Z", SEEN, 1e-6 / 86400),
        (None, SEEN, None),
    ],
)
def test_an_age_counts_days_to_the_event_time(rows, since, seen, age):
    """Both are moments after the rules of their zone; a later date has a negative age, and a missing one has none."""
    found = ages(READER.of_records([asked(since, seen)] * rows))
    if age is None:
        assert np.isnan(found).all()
    else:
        assert found == pytest.approx([age] * rows, rel=1e-6)


def test_an_event_time_in_numbers_counts_as_its_moment():
    """With source.epoch the event time is a number, and ages are counted to it."""
    reader = Reader(Schema(SCHEMA.columns, "", "seen_at", ZONE, "ms"))
    assert ages(reader.of_records([asked("2024-03-31T00:00:00Z", RECEIVED_S * 1000)])) == [1.0]
    assert reader.event_days(np.array([RECEIVED_S * 1000, None], object))[0] == 8857.0


@pytest.mark.parametrize("missing", [None, "", "NaN"])
def test_without_an_event_time_the_receipt_counts(missing):
    """In each row by itself; without a receipt such a row is refused in one line, and never read as a date that is missing."""
    records = [asked("2024-03-31T00:00:00Z", missing), asked("2024-03-31T00:00:00Z")]
    read = READER.of_records(records, RECEIVED_S)
    assert ages(read) == [1.0, 0.5] and read.received == RECEIVED_S and read.times == [None, SEEN]
    with pytest.raises(
        BadRequest, match="^row 0: column seen_at must not be missing: the age of since is counted to it$"
    ):
        READER.of_records(records)
    columns = {name: [record[name] for record in records] * 9 for name in records[0]}
    assert ages(READER.of_columns(columns, RECEIVED_S)) == [1.0, 0.5] * 9
    with pytest.raises(BadRequest, match="row 0: column seen_at must not be missing"):
        READER.of_columns(columns)


def test_a_nullable_date_and_one_that_must_be_there():
    """A missing date is missing in its age too; where it must not be missing it is refused by its name alone."""
    reader = Reader(Schema((Column("since", "datetime", False, parts=("age",)),), "", "seen_at"))
    with pytest.raises(BadRequest, match="^row 0: column since must not be missing$"):
        reader.of_records([{"since": None, "seen_at": SEEN}])
    assert reader.of_records([{"since": SEEN, "seen_at": SEEN}]).numbers[0, 1] == 0.0


def test_who_forgets_the_event_time_is_told():
    """No frame, array or matrix gets an age without the event time that it is counted to."""
    frame = pd.DataFrame({"calls": [1.0], "since": pd.to_datetime([SEEN]), "seen_at": pd.to_datetime([SEEN])})
    with pytest.raises(ValueError, match="the age of since is counted to the event time"):
        number_matrix(frame, SCHEMA.columns)
    with pytest.raises(ValueError, match="the age of since is counted to the event time"):
        READER.of_arrays({"calls": np.array([1.0]), "since": np.array([8857.0])})
    assert number_matrix(frame, SCHEMA.columns, ZoneInfo(ZONE), "seen_at")[0].tolist() == [1.0, 8856.5, 14.0, 0.0]


def logged(records, received=RECEIVED_S):
    """(the prediction log's table of the records, as one request each; what the model got)."""
    read = [READER.of_records([record], received + i) for i, record in enumerate(records)]
    answered = [AnsweredRequest(f"r{i}", of.received, of, np.zeros(1)) for i, of in enumerate(read)]
    table = pa.table(LogSchema(READER, "1", "blue").table(answered))
    return table, np.concatenate([of.numbers for of in read])


def some_records(count=400):
    """Dates of the day before as of the year 1960, to the microsecond and beside full hours; each third row has no event time."""
    rng = np.random.default_rng(3)
    start = datetime(2024, 3, 1, tzinfo=UTC)
    records = []
    for i in range(count):
        seen = start + timedelta(seconds=float(rng.uniform(0, 30 * 86400)))
        since = seen - timedelta(days=float(10 ** rng.uniform(-5, 4.3)))
        if i % 2:
            since = since.replace(minute=0, second=0) + timedelta(seconds=float(rng.uniform(-30, 30)))
        records.append(asked(since.isoformat(), None if i % 3 == 0 else seen.isoformat()))
    # A time beside the origin of the days, which are finer there than the age.
    return [*records, asked(None), asked("2000-01-01T00:00:07.123457Z", "2024-03-05T00:00:00.000003Z")]


def test_a_replay_asks_for_the_same_age():
    """The log has days and age in float32 and the event time or the receipt as they were: the candidate gets the very same numbers."""
    table, numbers = logged(some_records())
    features = paired.features_of(table)
    rows = paired.rows_of(features, SimpleNamespace(reader=READER))
    rows = Rows(rows.numbers, rows.texts, rows.keys, paired.event_times(table))
    names = [*READER.names, "seen_at"]
    again = READER.of_table(names, json.loads(json.dumps(replay._values(rows, READER))))
    assert np.array_equal(again.numbers, numbers, equal_nan=True)


def test_predict_reads_the_log_as_it_was_answered(tmp_path):
    """A prediction log as the input file gives each row the age that its request had."""
    import pyarrow.parquet as pq

    table, numbers = logged(some_records(60))
    pq.write_table(table, tmp_path / "log.parquet")
    runtime = SimpleNamespace(reader=READER, features=READER.names)
    (block,) = batch_scoring.Source(tmp_path / "log.parquet").blocks(runtime, 0)
    read = block_scoring.rows_of(block, READER, block_scoring.event_days(block, READER))
    assert np.array_equal(read.numbers, numbers, equal_nan=True)


class OfAges:
    """A version that answers with the age."""

    reader, features, classes, golden = READER, READER.names, (), b""
    golden = json.dumps({"request": {"dataframe_records": [asked(SEEN)]}}).encode()

    def predict(self, rows):
        return np.array(ages(rows), "float64")


def block(seen=None, **more):
    cells = {"calls": [1.0, 2.0, 3.0], "since": ["2024-03-31T00:00:00Z"] * 3} | more
    return pa.RecordBatch.from_pydict(cells | ({} if seen is None else {"seen_at": seen}))


def test_a_scored_interval_counts_to_its_end_where_nothing_else_is_known():
    """Rows without an event time have their age at the interval's end, and are counted; an unreadable one is refused."""
    scorer = block_scoring.BlockScorer(OfAges(), "1", "refuse", datetime(2024, 4, 2, tzinfo=UTC))
    scored, refused = scorer.score(block(), 0)
    assert scored["prediction"].to_pylist() == [2.0] * 3 and not refused and scorer.at_as_of == 3
    scored, refused = scorer.score(block(["2024-04-01T00:00:00Z", None, "soon"]), 3)
    assert scored["prediction"].to_pylist() == [1.0, 2.0] and scorer.at_as_of == 4
    assert [(of.row, of.reason[:35]) for of in refused] == [(5, "column seen_at must be a time like ")]


def test_a_scored_file_refuses_rows_without_an_event_time():
    """`predict` has no interval: an age that depended on the moment of the run would be another one tomorrow."""
    scorer = block_scoring.BlockScorer(OfAges(), "1", "refuse")
    scored, refused = scorer.score(block([pd.Timestamp("2024-04-01", tz="UTC"), None, None]), 0)
    assert scored["prediction"].to_pylist() == [1.0]
    assert {of.reason for of in refused} == {"column seen_at must not be missing: the age of since is counted to it"}
    assert [of.row for of in scorer.score(block(), 0)[1]] == [0, 1, 2]


class Kept(list):
    """A prediction log that keeps what it gets."""

    add = list.append


class Slot(OfAges):
    platform, manifest, task, background = "ages", {}, "regression", None


def test_a_slot_fixes_the_receipt_once():
    """A request's receipt is one for its age and for the log, whatever the client says of it, and the expendable process gets it too."""
    log = Kept()
    app = App(Slot(), log, Identity("churn", "1", "blue"), Settings(batching="off"))
    client = TestClient(app)
    body = {"dataframe_records": [{"calls": 1, "since": "2024-03-31T00:00:00Z"}]}
    answer = client.post("/invocations", json=body, headers={RECEIVED.decode(): "0"}).json()
    (answered,) = log
    since = datetime(2024, 3, 31, tzinfo=UTC).timestamp()
    days = (int(answered.received_at * 1000) / 1000 - since) / 86400
    assert answer["predictions"] == [np.float32(days)] and days > 0
    again = app.predictions("/invocations", {RECEIVED: repr(answered.received_at).encode()}, json.dumps(body).encode())
    assert again.tolist() == answer["predictions"]


def test_golden_requests_carry_the_event_time_where_an_age_is_counted_to_it():
    """Without ages they are as they were, so that a package without them has the same bytes."""
    rows = pd.DataFrame({"calls": [1.0], "since": pd.to_datetime([SEEN]), "seen_at": pd.to_datetime([SEEN])})
    assert frames.records(rows, SCHEMA) == [asked(SEEN, SEEN) | {"calls": 1.0}]
    plain = Schema((Column("calls"), Column("since", "datetime")), "customer", "seen_at", ZONE)
    assert frames.records(rows, plain) == [{"calls": 1.0, "since": SEEN}]


@pytest.mark.parametrize(
    ("calendar", "key"),
    [(["age", "hour"], "training.calendar"), ({"seen_at": ["age"]}, "training.calendar.seen_at")],
)
def test_the_age_of_the_event_time_is_refused(settings, calendar, key):
    """It is 0 in each row."""
    churn = settings.model("churn")
    said = churn.training.model_dump() | {"datetime": ["seen_at", "since"], "calendar": calendar}
    told = dict(faults(churn.model_copy(update={"training": Training(**said)})))
    assert told[key].startswith("the age of seen_at is always 0, because it is the event time")
    said["calendar"] = {"since": ["age"], "seen_at": ["hour"]}
    assert key not in dict(faults(churn.model_copy(update={"training": Training(**said)})))


def test_an_age_is_no_drift():
    """It grows with the calendar for the same people."""
    assert SINCE.watched == ("since days",)
