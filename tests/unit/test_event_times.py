"""Event times of requests: one list of forms, in the documents as at the door."""

import json
import re
from datetime import UTC, datetime

import pytest

from harness.project import ROOT
from pipeline.gates.schema import changes
from pipeline.serving import forms
from pipeline.serving.errors import BadRequest
from pipeline.serving.identity import Identity
from pipeline.serving.schema import Column, Reader, Schema, Unreadable, times

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
