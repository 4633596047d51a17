"""A model without source.key: its rows get a key from their event time and features, the same at the source and in the log."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from harness.project import change_params
from pipeline.data import row_keys
from pipeline.gates.schema import changes
from pipeline.monitoring import derived_keys, live_quality
from pipeline.monitoring.drift import DriftVerdict
from pipeline.monitoring.label_join import with_labels
from pipeline.policy.retrain import decide
from pipeline.serving import docs
from pipeline.serving.errors import BadRequest
from pipeline.serving.schema import Column, Reader, Schema
from pipeline.settings.models import Monitor, load

AS_OF = datetime(2024, 3, 1, tzinfo=UTC)


def test_a_key_knows_no_schema_and_no_order():
    """Canonical texts of any spelling, other orders of the features, and wider numbers give the same key."""
    frame = pd.DataFrame({"a": [0.1], "b": [2.0], "shop": ["2.0"], "vip": ["yes"]})
    at = pd.Series(pd.to_datetime(["2024-02-01T00:00:00Z"]))
    training = Training(("a", "b"), ("shop", "vip"))
    (expected,) = row_keys.of_frame(frame, at, training)
    for changed in ({"shop": ["2"]}, {"vip": ["true"]}, {"vip": ["1"]}, {"a": np.array([0.1], "float32")}):
        assert row_keys.of_frame(frame.assign(**changed), at.dt.as_unit("ns"), training) == [expected]
    assert row_keys.of_frame(frame, at, Training(("b", "a"), ("vip", "shop"))) == [expected]
    others = [
        {"shop": ["3"]},
        {"vip": ["no"]},
        {"a": [0.2]},
        {"a": [np.nan]},
        {"shop": [None]},
        {"a": [2.0], "b": [0.1]},
    ]
    keys = {row_keys.of_frame(frame.assign(**other), at, training)[0] for other in others}
    keys |= {row_keys.of_frame(frame, at + pd.Timedelta(microseconds=1), training)[0], expected}
    assert len(keys) == len(others) + 2
    assert row_keys.of_frame(frame, pd.Series([pd.NaT], dtype="datetime64[us, UTC]"), training) == [None]


class Training:
    def __init__(self, numeric, categorical):
        self.numeric, self.categorical, self.datetime, self.text = numeric, categorical, (), ()


def alike(*rows):
    """(key, target, how many rows are alike) as labels."""
    times = [AS_OF + pd.Timedelta(seconds=number) for number in range(len(rows))]
    columns = {
        "key": [r[0] for r in rows],
        "target": [float(r[1]) for r in rows],
        derived_keys.ALIKE: [r[2] for r in rows],
    }
    return pd.DataFrame({**columns, "event_time": AS_OF, "known": times})


@pytest.mark.parametrize(
    ("keys", "labelled", "expected", "left_out"),
    [
        (["a"], alike(("a", 1, 1)), [1], 0),
        # Both were asked: which label goes to which answer is one, for the answers are equal.
        (["a", "a"], alike(("a", 1, 2), ("a", 0, 2)), [1, 0], 0),
        # Asked twice about one row.
        (["a", "a"], alike(("a", 1, 1)), [1], 0),
        # One of two was asked, and of the other the label is known, or not yet.
        (["a"], alike(("a", 1, 2), ("a", 0, 2)), [], 1),
        (["a"], alike(("a", 1, 2)), [], 1),
        # Both were asked, and one label is known.
        (["a", "a"], alike(("a", 1, 2)), [1], 0),
        # Without an event time there is no key.
        ([None, "b"], alike(("a", 1, 1)), [], 0),
    ],
)
def test_labels_of_rows_that_are_alike_count_when_each_was_asked(keys, labelled, expected, left_out):
    """Each label goes to one answer; where fewer were asked than there are rows, none counts, and they are counted."""
    asked = pd.DataFrame({"key": keys, "event_time": AS_OF, "timed": True, "prediction": 0.5})
    assert with_labels(asked, labelled, timedelta(seconds=60)).target.tolist() == expected
    assert derived_keys.left_out(asked, labelled) == left_out
    assert derived_keys.left_out(asked, labelled.drop(columns=derived_keys.ALIKE)) is None


def test_a_request_of_a_model_without_a_key_sends_none():
    """Its key is a column that the model does not have; to drop a key is a change of the schema, to add one is none."""
    schema = Schema((Column("spend"),), "", "seen_at")
    reader = Reader(schema)
    assert reader.of_records([{"spend": 1, "seen_at": "2024-02-01"}]).keys == [None]
    for name in ("customer", ""):
        with pytest.raises(BadRequest, match=f"row 0: column {name} is unknown to the model"):
            reader.of_records([{"spend": 1, name: "c1"}])
        with pytest.raises(BadRequest, match=f"row 0: column {name} is unknown to the model"):
            reader.of_columns({"spend": [1], name: ["c1"]})
    keyed = Schema(schema.columns, "customer", "seen_at")
    assert changes(keyed, schema) == ["the key customer is dropped"]
    assert changes(schema, keyed) == []


def test_answers_whose_labels_count_for_nobody_are_said():
    """In the receipt, whether or not the others are enough; a model with a key has no such line."""
    calm = DriftVerdict("no verdict", "too few rows", 0, 0)
    limits = Monitor(cron="0 0 * * *", window_days=1)
    for value in (None, 0.8):
        known = live_quality.LiveQuality("roc_auc", value, 0.8, 5, 9, alike=4)
        assert "; 4 answers are to rows that are alike in event time" in " ".join(decide(calm, known, limits).reasons)
        assert "alike" not in " ".join(decide(calm, replace(known, alike=None), limits).reasons)


def test_the_documents_of_a_slot_show_no_key():
    """A model without a key has no property of that name, and its numbers are event times by the epoch."""
    schema = Schema((Column("spend"),), "", "seen_at", epoch="ms")
    row = docs._row(Reader(schema))
    assert list(row["properties"]) == ["spend", "seen_at"]
    assert row["properties"]["seen_at"]["description"].startswith("a number of ms since 1970-01-01 UTC, or a time like")


@pytest.mark.parametrize("how", ["hash", "drop"])
def test_personal_features_need_a_key(project, how):
    """They are not in the log as they were asked, so that no key can be made of them: refused when params.yaml is read."""
    change_params(project, "models.churn.source.key", None)
    change_params(project, "models.churn.rollout.serving", {"personal": {"plan": how}})
    fault = str(load(project).broken["churn"])
    assert "models.churn.source.key: is needed where features are personal" in fault
    assert "does not have plan as asked (rollout.serving.personal)" in fault
    change_params(project, "models.churn.source.key", "customer")
    assert not load(project).broken
