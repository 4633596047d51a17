"""A change that the source's rows of the same days do not show is train/serve skew, and no retrain is asked for."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import numpy as np
import pandas as pd
import pytest

from harness.project import change_params
from pipeline.cli import tables
from pipeline.deployer import traffic
from pipeline.ledger.events import DriftChecked
from pipeline.monitoring import source_window
from pipeline.monitoring.drift import DriftVerdict, FeatureDrift, Score
from pipeline.monitoring.live_quality import LiveQuality
from pipeline.monitoring.skew import Skew, looked_for
from pipeline.policy.retrain import decide
from pipeline.runs import drift_compared, drift_skew
from pipeline.serving.prediction_log import pseudonym
from pipeline.settings.models import Monitor
from tests.support.monitored import FEATURES, Monitored, at

DAY = timedelta(days=1)
LIMITS = Monitor(cron="0 6 * * *", window_days=7)
SKEW = DriftVerdict("skew", "1 of 1 features moved", 900, 900)


@pytest.fixture
def model(project, ledger, churn_artifacts, tmp_path):
    """All requests are alike, which is nothing like what version 1 learnt from."""
    return Monitored(project, ledger, churn_artifacts, tmp_path / "home", 2)


def test_what_the_source_shows_too_is_drift_and_what_it_does_not_is_skew(model):
    """Verdict, sentence, page, command and event call it so; it is one alarm, and nothing retrains."""
    both = model.check(at(3))
    assert (both.drift.verdict, both.receipt.decision, both.skew.serving) == ("drift", "retrain", ())
    assert "source: the source's 420 rows of the same requests show it too" in both.receipt.reasons
    assert "skew" not in both.said
    model.land(model.source)
    check = model.check(at(3))
    assert (check.drift.verdict, check.receipt.decision, check.skew.joined) == ("skew", "wait", True)
    assert check.alarm == both.alarm
    said = "train/serve skew on the serving side: the source's 420 rows of the same requests do not show it"
    assert said in check.said and said in check.drift.reason and said in tables.drift_check(check)
    assert check.receipt.reasons[-1].startswith("skew: a retrain learns from the source's rows and cannot cure it")
    page = check.report.read_text()
    assert page.count("moved in the requests only: train/serve skew") == len(check.drift.moved) == 3
    event = DriftChecked.read(model.ledger.events(DriftChecked)[-1].body)
    assert (event.verdict, event.skew["serving"]) == ("skew", ["plan", "spend", "calls"])


def looked(model, **requests):
    """What the source shows of a change in spend and plan that all requests have."""
    compare = partial(drift_compared.of_rows, model.context, "churn", model.reference, schema=model.schema, as_of=at(3))
    rows = traffic(model.context).predictions("churn", at(1) - 5 * DAY, at(3)).rows.assign(**requests)
    drift = compare(rows)
    return drift_skew.judged(model.context, "churn", drift, rows, model.schema, at(3), compare)


def test_skew_in_one_feature_of_several_is_named_and_the_rest_is_drift(model):
    """Only `plan` is as it was at the source."""
    model.land(model.source.assign(spend=1.0, calls=2.0))
    drift, skew = looked(model)
    assert (drift.verdict, skew.serving, set(skew.source)) == ("drift", ("plan",), {"spend", "calls"})
    assert str(skew) == (
        "train/serve skew in plan: the source's 420 rows of the same requests do not show it; "
        "the source's 420 rows of the same requests show spend, calls"
    )


def test_without_a_key_all_rows_of_the_days_are_compared(model):
    """And so they are where no request has a row of its own."""
    model.land(model.source.assign(customer=[f"x{i}" for i in range(len(model.source))]))
    for _ in range(2):
        drift, skew = looked(model)
        assert (drift.verdict, skew.joined, skew.rows) == ("skew", False, 7 * 60)
        change_params(model.project, "models.churn.source.key", None)


@pytest.mark.parametrize("key", ["customer", None])
def test_rows_that_have_not_landed_yet_are_no_skew(model, key):
    """Without any it is not known. Of half of the days these are compared, on both sides: a change that came later is not known."""
    change_params(model.project, "models.churn.source.key", key)
    model.land(model.source[model.source["seen_at"] < at(1) - 5 * DAY])
    drift, skew = looked(model)
    assert drift.verdict == "drift"
    assert str(skew) == "whether it is train/serve skew is not known: the source has no rows of these days yet"
    landed = model.source[model.source["seen_at"] < at(1)]
    model.land(landed)
    drift, skew = looked(model)
    assert (drift.verdict, skew.rows) == ("skew", 5 * 60)
    same = {name: [*landed[name].tail(5 * 60), *[FEATURES[name]] * 2 * 60] for name in FEATURES}
    drift, skew = looked(model, **same)
    assert (drift.verdict, skew.serving, skew.source) == ("drift", (), ())
    assert str(skew).endswith("is not known: the requests that the source has rows for do not show the change")


def test_a_source_that_cannot_be_read_is_told(model):
    """It hides no alarm."""
    model.land(model.source.drop(columns="plan"))
    drift, skew = looked(model)
    assert (drift.verdict, skew.source) == ("drift", ())
    assert str(skew).startswith("whether it is train/serve skew is not known: churn source: has no column plan")


def test_the_sources_rows_are_read_as_the_log_has_them(model):
    """In float32, a missing category as none, a hashed key as the log has it; rows without a label, or with a later one, are there too."""
    change_params(model.project, "models.churn.rollout.serving", {"personal": {"customer": "hash"}})
    model.land(model.source.assign(left=np.nan, spend=0.1, plan=[None, *["plus"] * (len(model.source) - 1)]))
    settings = model.context.params.model("churn")
    start = at(1) - 31 * DAY
    rows = source_window.rows_as_logged(settings, model.project, start, start + DAY, "churn", model.schema, "ab" * 32)
    assert rows.columns.tolist() == ["event_time", "key", "spend", "calls", "plan"]
    assert (len(rows), rows["plan"].isna().sum(), rows["plan"][1], rows["spend"][0]) == (60, 1, "plus", np.float32(0.1))
    assert rows["key"][0] == pseudonym(bytes.fromhex("ab" * 32), "c000000")


def feature(times, way=1.0):
    shape = {"edges": [1.0, 2.0, 3.0], "below": [-0.1 * way, -0.2 * way, -0.1 * way], "cells": {}}
    return DriftVerdict("drift", "", 500, 500, (FeatureDrift("x", (Score("PSI", times, 1.0),), shape=shape),))


@pytest.mark.parametrize(
    ("log", "source", "side"),
    [
        (feature(4.0), feature(1.5), "source"),
        (feature(1.2), feature(0.7), "source"),
        (feature(1.2), feature(0.5), "serving"),
        # The source moved elsewhere: its season is no cause of the log's unit.
        (feature(4.0), feature(1.5, -1.0), "serving"),
        # The requests that have rows are those that did not change.
        (feature(0.9), feature(0.1), "unknown"),
    ],
)
def test_the_source_shows_a_change_that_goes_the_same_way_about_as_far(log, source, side):
    """By its own limits, or half as far as the log."""
    start = pd.Timestamp("2024-02-01", tz="UTC")
    rows = pd.DataFrame({"event_time": [start + timedelta(minutes=i) for i in range(20)]})
    verdicts = iter([log, source])
    later = pd.DataFrame({"event_time": [start + 9 * DAY]})
    requests = pd.concat([rows, later], ignore_index=True)
    found = looked_for(log if log.moved else feature(2.0), requests, rows, lambda _: next(verdicts), timedelta(0), 10)
    assert [name for name in ("serving", "source", "unknown") if getattr(found, name)] == [side]


def test_answers_that_got_worse_before_the_skew_began_still_retrain():
    """Skew explains bad answers of its own days alone."""
    skew = Skew(serving=("x",), rows=900, joined=True)
    worse = LiveQuality("roc_auc", 0.7, 0.8, 5000, 6000, low=0.68, high=0.72)
    then, now = "2024-02-08T00:00:00+00:00", "2024-02-15T00:00:00+00:00"
    old, same_days = (LiveQuality(**{**worse.__dict__, "judged_until": until}) for until in (then, now))
    assert decide(SKEW, same_days, LIMITS, "", skew, then).decision == "wait"
    receipt = decide(SKEW, old, LIMITS, "", skew, then)
    assert (receipt.decision, receipt.would_flip) == ("retrain", "a drop of roc_auc of at most 0.05")
