"""Event times of requests: one list of forms, in the documents as at the door."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from starlette.testclient import TestClient

from harness.project import ROOT
from pipeline.cli import tables
from pipeline.gates.schema import changes
from pipeline.ledger.events import DriftChecked
from pipeline.monitoring import live_quality
from pipeline.monitoring.drift import DriftVerdict
from pipeline.policy.retrain import decide
from pipeline.runs.drift_check import DriftCheck
from pipeline.serving import forms
from pipeline.serving.app import App
from pipeline.serving.errors import BadRequest
from pipeline.serving.identity import Identity
from pipeline.serving.prediction_log import LogSchema, PredictionLog
from pipeline.serving.runtime import Runtime
from pipeline.serving.schema import Column, Reader, Schema, Unreadable, times
from pipeline.settings.models import Monitor, load

SCHEMA = Schema((Column("spend"),), "customer", "seen_at")
AT = "2024-02-01T10:05:06Z"


def asked(at, schema):
    """By form of request, what reads a row with that event time."""
    reader, whole = Reader(schema), not isinstance(at, str)
    row = {"spend": 1.0, "seen_at": at}
    kind = "BYTES" if not whole else "INT64" if isinstance(at, int) else "FP64"
    tensors = [
        {"name": "spend", "datatype": "FP32", "shape": [1], "data": [1.0]},
        {"name": "seen_at", "datatype": kind, "shape": [1], "data": [at]},
    ]

    def body(content):
        return json.dumps(content).encode()

    split = {"columns": list(row), "data": [list(row.values())]}
    identity = Identity("churn", "1", "blue")
    return {
        "records": lambda: forms.invocations(body({"dataframe_records": [row]}), reader, 9),
        "split": lambda: forms.invocations(body({"dataframe_split": split}), reader, 9),
        "inputs": lambda: forms.invocations(body({"inputs": {n: [v] for n, v in row.items()}}), reader, 9),
        "CSV": lambda: forms.invocations(f"spend,seen_at\n1,{at}\n".encode(), reader, 9, b"text/csv"),
        "v2": lambda: forms.infer(body({"inputs": tensors}), reader, 9, None, identity),
    }


@pytest.mark.parametrize("form", asked(AT, SCHEMA))
@pytest.mark.parametrize(
    ("unit", "at", "expected"),
    [
        ("s", 1706781906, AT),
        ("s", 1706781906.5, "2024-02-01T10:05:06.500000Z"),
        ("ms", 1706781906000, AT),
        ("us", 1706781906000000, AT),
        ("ns", 1706781906123456789, "2024-02-01T10:05:06.123456Z"),
        ("ms", "1706781906000", AT),
        ("ms", AT, AT),
    ],
)
def test_a_number_is_an_event_time_by_the_epoch_in_each_form(form, unit, at, expected):
    """JSON numbers, the digits of a CSV, and v2's numbers and texts have one event time."""
    schema = Schema.from_json(Schema(SCHEMA.columns, "customer", "seen_at", epoch=unit).as_json())
    assert asked(at, schema)[form]().rows.times == [expected]


@pytest.mark.parametrize("form", ["records", "split", "inputs", "CSV"])
def test_a_number_without_an_epoch_is_refused_with_the_key(form):
    """No number becomes a time, or silently none; the refusal has the key's full name and the address of the list."""
    with pytest.raises(
        BadRequest, match=r"row 0: column seen_at must be a time .*params\.md.*models\.NAME\.source\.epoch"
    ):
        asked(1706781906, SCHEMA)[form]()


def test_a_tensor_of_numbers_is_no_event_time_without_an_epoch():
    """The v2 protocol's datatype says so before any value is looked at."""
    with pytest.raises(BadRequest, match="datatype must be one of BYTES for this column; got INT64"):
        asked(1706781906, SCHEMA)["v2"]()


def test_one_missing_time_refuses_no_frame():
    """Of many rows those without a time have none; the others keep theirs."""
    spelt = [AT, None, "NaT", "", float("nan"), AT]
    rows = Reader(SCHEMA).of_records([{"spend": 1.0, "seen_at": at} for at in spelt])
    assert rows.times == [AT, None, None, None, None, AT]


def test_the_documents_list_each_form():
    """The examples of docs/params.md are times, those with an epoch numbers only, and what it excludes is none."""
    section = (ROOT / "docs" / "params.md").read_text().partition("\n## Times\n")[2].partition("\n## ")[0]
    listed = [
        (line.split("|")[1], re.findall(r"`([^`]+)`", line.split("|")[2]))
        for line in section.splitlines()
        if line.startswith("| ") and "`" in line.split("|")[2]
    ]
    examples = {text: "source.epoch" in form for form, texts in listed for text in texts}
    assert len(examples) == 12
    for text, number in examples.items():
        assert times.instant(text, epoch="s") is not None, text
        if number:
            with pytest.raises(Unreadable):
                times.instant(text)
        else:
            assert times.instant(text).date() == datetime(2024, 2, 1, tzinfo=UTC).date(), text
    for text in re.findall(r"`([^`]+)`", section.partition("Nothing else is a time")[2].partition(", nor")[0]):
        with pytest.raises(Unreadable, match=re.escape("docs/params.md, Times")):
            times.instant(text)


def test_numbers_that_are_no_times_any_more_are_a_change_of_the_schema():
    """A candidate that refuses the event times which clients send does not go live unseen."""
    before = Schema(SCHEMA.columns, "customer", "seen_at", epoch="s")
    assert changes(before, SCHEMA) == ["numbers as event times, in s, are now no times"]
    assert changes(SCHEMA, before) == changes(before, before) == []


def test_rows_without_an_event_time_are_counted_and_said(churn_package, project, tmp_path):
    """By the slot for Prometheus, by the monitor in its window, where they are by their receipt, and in the drift check's line and event."""
    runtime = Runtime.load(churn_package)
    log = PredictionLog(tmp_path / "log", "blue", "3", LogSchema(runtime.reader, "3", "blue"), lambda rows: None)
    client = TestClient(App(runtime, log, Identity("churn", "3", "blue")))
    now = datetime.now(UTC)
    row = {"spend": 10.0, "calls": 4, "plan": "plus", "customer": "c1"}
    asked = [row, row | {"seen_at": None}, row | {"seen_at": now.isoformat()}, row | {"seen_at": "2001-01-01"}]
    assert client.post("/invocations", json={"dataframe_records": asked}).status_code == 200
    assert client.post("/invocations", json={"dataframe_records": [row | {"seen_at": "soon"}]}).status_code == 400
    log.close()
    labels = 'model="churn",slot="blue",version="3"'
    assert f"perennial_rows_without_event_time_total{{{labels}}} 2.0" in client.get("/metrics").text
    day, model = timedelta(days=1), load(project).model("churn")
    found = live_quality.read_log(tmp_path / "log", model, now - day, now + day)
    assert (len(found.rows), found.without_event_time, found.logged) == (3, 2, 4)
    assert live_quality.read_log(tmp_path / "none", model, now - day, now + day).without_event_time == 0
    limits = Monitor(cron="0 0 * * *", window_days=1)
    calm, quality = DriftVerdict("no verdict", "too few rows", 0, 0), live_quality.LiveQuality("rmse", None, 1.0, 0, 0)
    check = DriftCheck(calm, "3", now, now, quality, 0, 0, decide(calm, quality, limits), None, without_event_time=2)
    assert "without an event time: 2 of the requests in the window; they count by their time of receipt" in (
        tables.drift_check(check)
    )
    assert DriftChecked.read(check.as_dict()).without_event_time == 2
