"""Drift is found where it is, not where it is not, and never from too little."""

import numpy as np
import pandas as pd
import pytest

from harness.project import change_params
from pipeline.monitoring.drift import DriftVerdict, compare
from pipeline.monitoring.live_quality import NO_LABELS, LiveQuality, labels, logged, predictions
from pipeline.monitoring.live_quality import quality as quality_of
from pipeline.monitoring.measures import missing_share, psi
from pipeline.monitoring.measures.base import Tables
from pipeline.policy.retrain import decide
from pipeline.serving import log_files
from pipeline.serving.prediction_log import pseudonym
from pipeline.settings.models import DriftLimits, load


def sample(rows, seed, shift=0.0, missing=0.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1, rows)
    x[rng.random(rows) < missing] = np.nan
    return pd.DataFrame({"x": x, "kind": rng.choice([f"k{i}" for i in range(100)], rows)})


def judged(before, now, **limits):
    return compare(before, now, ["x"], ["kind"], DriftLimits(**limits))


def test_the_same_world_is_no_drift():
    """Two samples of the same distribution show no drift."""
    assert judged(sample(5000, 1), sample(5000, 2)).verdict == "no drift"


@pytest.mark.parametrize("rows", [1000, 1001, 3000])
def test_small_windows_of_the_same_world_raise_no_alarm(rows):
    """Windows of a thousand rows with a hundred categories raise no alarm from noise."""
    verdicts = [judged(sample(5000, s), sample(rows, 100 + s)) for s in range(10)]
    assert [v.verdict for v in verdicts] == ["no drift"] * 10


def test_a_shift_is_drift_and_names_the_feature():
    """A shifted feature is drift, and the verdict names the feature."""
    verdict = judged(sample(5000, 1), sample(5000, 2, shift=1.0))
    assert verdict.verdict == "drift"
    assert [f.feature for f in verdict.moved] == ["x"]
    assert "x (PSI" in verdict.reason


def test_the_picture_runs_no_script_that_a_client_sent(tmp_path):
    """A category, or a column's name, that would end the page's script stands in it as text, and is judged as any other."""
    end = "</script><script>alert(1)</script>"
    before, now = pd.DataFrame({"x <1": ["a", "b"] * 500}), pd.DataFrame({"x <1": ["a", end] * 500})
    verdict = compare(before, now, [], ["x <1"], DriftLimits(min_rows=10), tmp_path / "picture.html")
    assert [f.feature for f in verdict.moved] == ["x <1"]
    page = (tmp_path / "picture.html").read_text()
    assert "alert(1)" in page
    assert "<script>alert(1)" not in page
    plain = compare(before, now.replace(end, "c"), [], ["x <1"], DriftLimits(min_rows=10))
    assert verdict.features[0].leading_figure == plain.features[0].leading_figure


def test_missing_values_count():
    """A growing share of missing values is drift."""
    verdict = judged(sample(5000, 1), sample(5000, 2, missing=0.5))
    assert [f.feature for f in verdict.moved] == ["x"]
    assert "missing 0% before" in verdict.reason


def test_a_column_that_is_all_missing_is_drift_not_a_crash():
    """A column that is all missing is drift."""
    assert judged(sample(5000, 1), sample(5000, 2).assign(x=np.nan)).verdict == "drift"


@pytest.mark.parametrize("column", ["x", "kind"])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("now", [True, False])
def test_an_empty_column_keeps_no_other_from_its_verdict(tmp_path, column, before, now):
    """Evidently 1480: a column without a value, before or now, is judged by that alone; the others have theirs, and the picture is written."""
    other = "kind" if column == "x" else "x"
    tables = [sample(5000, 1), sample(5000, 2, shift=0.0)]
    tables = [t.assign(**{column: None}) if empty else t for t, empty in zip(tables, (before, now), strict=True)]
    verdict = compare(*tables, ["x"], ["kind"], DriftLimits(), tmp_path / "report.html")
    assert [f.feature for f in verdict.moved] == ([column] if before != now else [])
    figures = {f.feature: f.figures for f in verdict.features}
    assert figures[other]["psi"] is not None
    assert (tmp_path / "report.html").is_file()


def test_categories_that_training_never_saw_are_drift():
    """A column whose values the model does not know has moved, with a value that shows why; one that it knows has not."""
    known = {"kind": frozenset(f"k{i}" for i in range(100))}
    before, now = sample(5000, 1), sample(5000, 2)
    assert compare(before, now, ["x"], ["kind"], DriftLimits(), learnt=known).verdict == "no drift"
    renamed = now.assign(kind=now["kind"].where(now.index % 5 > 0, now["kind"].str.upper()))
    verdict = compare(before, renamed, ["x"], ["kind"], DriftLimits(psi_limit=9), learnt=known)
    assert verdict.verdict == "drift"
    assert "kind (20% unknown to the model, e.g. K" in verdict.reason


def test_each_measure_scores_every_feature_and_the_report_has_all_figures():
    """Each measure scores every feature, and the report holds the figures and reasons of both."""
    before, now = sample(5000, 1), sample(5000, 2, shift=1.0, missing=0.5)
    tables = Tables(before, now, ["x"], ["kind"])
    for measure in (psi, missing_share):
        scores = measure.scores(tables, DriftLimits())
        assert {feature: score.moved for feature, score in scores.items()} == {"x": True, "kind": False}
    x, kind = judged(before, now).as_dict()["features"]
    assert list(x) == ["feature", "psi", "psi_limit", "missing_before", "missing_now", "unknown", "moved", "reason"]
    assert x["reason"].startswith("PSI ")
    assert x["reason"].endswith(" and missing 0% before, 50% now")
    assert kind["reason"].startswith("PSI ")
    assert " within " in kind["reason"]


def test_infinities_do_not_crash_it():
    """One infinite value is no drift and no error."""
    now = sample(5000, 2)
    now.loc[0, "x"] = np.inf
    assert judged(sample(5000, 1), now).verdict == "no drift"


@pytest.mark.parametrize("now", [sample(999, 2, shift=5.0), sample(0, 2), sample(5000, 2).drop(columns="x")])
def test_too_little_is_no_verdict(now):
    """Too few rows or a missing column give no verdict."""
    assert judged(sample(5000, 1), now).verdict == "no verdict"


def quality(value, labelled=5000):
    return LiveQuality("roc_auc", value, 0.8, labelled, 6000)


def test_decide_gives_reasons_and_what_would_flip_it(settings):
    """A decision to retrain or wait gives its reasons and the input that would change it."""
    limits = settings.model("churn").monitor
    calm = DriftVerdict("no drift", "0 of 2 features moved", 5000, 5000)
    drift = DriftVerdict("drift", "2 of 2 features moved", 5000, 5000)
    assert decide(calm, quality(0.79), limits).decision == "wait"
    assert decide(drift, quality(0.79), limits).decision == "retrain"
    worse = decide(calm, quality(0.7), limits)
    assert worse.decision == "retrain"
    assert "a drop of roc_auc of at most 0.05" in worse.would_flip
    unlabelled = decide(calm, quality(None, 3), limits)
    assert unlabelled.decision == "wait"
    assert "live quality: unknown, 3 of 6,000" in unlabelled.reasons[1]


def write_log(folder, rows, part=0, features=True, golden=None):
    """A part of a prediction log, as a slot writes it; rows give (request id, key, event time)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "request_id": [r[0] for r in rows],
        "received_at": pa.array([pd.Timestamp("2026-01-01", tz="UTC")] * len(rows), pa.timestamp("ms", tz="UTC")),
        "event_time": [r[2] for r in rows],
        "key": [r[1] for r in rows],
        "version": ["1"] * len(rows),
        "slot": ["blue"] * len(rows),
        "prediction": [0.5] * len(rows),
    }
    if golden is not None:
        columns["golden"] = golden
    if features:
        columns["features"] = [{"spend": 1.0, "calls": None, "plan": "plus"}] * len(rows)
    pq.write_table(pa.table(columns), folder / log_files.file_name("blue-v1-1", part, part))


def test_the_prediction_log_reads_by_event_time(settings, tmp_path):
    """Logged predictions are selected by event time, or by receipt where there is none."""
    model = settings.model("churn")
    times = ["2024-02-01T00:00:00+00:00", "2024-02-02T00:00:00+00:00", None]
    write_log(tmp_path, [("r", f"c{i}", t) for i, t in enumerate(times)])
    day = pd.Timestamp("2024-02-02", tz="UTC")
    found = predictions(tmp_path, model, day, day + pd.Timedelta(days=1))
    assert found.key.tolist() == ["c1"]
    assert found.plan.tolist() == ["plus"]
    by_receipt = predictions(
        tmp_path, model, pd.Timestamp("2026-01-01", tz="UTC"), pd.Timestamp("2026-01-02", tz="UTC")
    )
    assert by_receipt.key.tolist() == ["c2"]
    assert predictions(tmp_path / "none", model, day, day).empty
    assert logged(tmp_path) == 3


def test_golden_requests_are_no_traffic(settings, tmp_path):
    """Golden requests in the log do not count as traffic."""
    write_log(tmp_path, [("golden-blue-v1", None, None), ("abc", None, None)])
    day = pd.Timestamp("2026-01-01", tz="UTC")
    assert len(predictions(tmp_path, settings.model("churn"), day, day + pd.Timedelta(days=1))) == logged(tmp_path) == 1


def test_an_id_from_outside_hides_no_row_of_a_slot_that_marks_its_golden_requests(settings, tmp_path):
    """The column `golden` says what is no traffic; only where a file lacks it the id does."""
    write_log(tmp_path, [("golden-blue-v1", None, None), ("abc", None, None)])
    write_log(tmp_path, [("golden-outside", None, None), ("golden-blue-v1", None, None)], part=1, golden=[False, True])
    day = pd.Timestamp("2026-01-01", tz="UTC")
    assert len(predictions(tmp_path, settings.model("churn"), day, day + pd.Timedelta(days=1))) == logged(tmp_path) == 2


def test_a_hashed_key_still_joins_its_labels(project, settings):
    """Labels join a log whose key is hashed."""
    change_params(project, "models.churn.rollout.serving.personal", {"customer": "hash"})
    model, start, as_of = (
        load(project).model("churn"),
        *(pd.Timestamp(d, tz="UTC") for d in ("2024-02-01", "2024-02-20")),
    )
    named = labels(settings.model("churn"), project, start, as_of, "churn")
    hidden = labels(model, project, start, as_of, "churn", "00ff")
    assert hidden["key"].tolist() == [pseudonym(b"\x00\xff", key) for key in named["key"]]
    assert hidden.drop(columns="key").equals(named.drop(columns="key"))
    assert (named["known"] <= as_of).all()


def test_features_that_are_not_logged_are_missing(settings, tmp_path):
    """Features that some or all log files lack are read as missing."""
    model, day = settings.model("churn"), pd.Timestamp("2026-01-01", tz="UTC")
    write_log(tmp_path, [("a", "c0", None)], features=False)
    assert predictions(tmp_path, model, day, day + pd.Timedelta(days=1)).plan.isna().all()
    write_log(tmp_path, [("b", "c1", None)], part=1)
    found = predictions(tmp_path, model, day, day + pd.Timedelta(days=1))
    assert found.set_index("key").plan.fillna("none").to_dict() == {"c0": "none", "c1": "plus"}


def test_live_quality_writes_the_keys_of_the_drift_event():
    """Live quality is written with the keys of the drift event."""
    values = {"metric": "roc_auc", "value": 0.7, "held_out": 0.8, "labelled": 5000, "asked": 6000, "other_time": 0}
    assert list(quality(0.7).as_dict().items()) == list(values.items())


def test_without_labels_or_keys_quality_is_unknown(settings):
    """Live quality is unknown without requests, keys or labels."""
    model = settings.model("churn")
    asked = pd.DataFrame({"key": [None, None], "prediction": [0.1, 0.2]})
    for frame in (asked, asked.head(0), asked.assign(key=["c1", "c2"])):
        live = quality_of(frame, NO_LABELS, model, 0.8)
        assert (live.value, live.labelled) == (None, 0)
