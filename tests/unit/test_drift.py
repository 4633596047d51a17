"""Drift is found where it is, not where it is not, and never from too little."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from harness.project import change_params
from pipeline.monitoring import drift_picture
from pipeline.monitoring.drift import DriftVerdict, Window, compare
from pipeline.monitoring.live_quality import NO_LABELS, LiveQuality, labels, logged, predictions
from pipeline.monitoring.live_quality import quality as quality_of
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.monitoring.profiles.reference import reference_of
from pipeline.policy.retrain import decide
from pipeline.serving import log_files
from pipeline.serving.prediction_log import pseudonym
from pipeline.settings.cron import runs_a_quarter
from pipeline.settings.models import DriftLimits, load


def sample(rows, seed, shift=0.0, missing=0.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1, rows)
    x[rng.random(rows) < missing] = np.nan
    return pd.DataFrame({"x": x, "kind": rng.choice([f"k{i}" for i in range(100)], rows)})


def compared(before, now, numeric, categorical, learnt=None, **limits):
    """The verdict on two tables without times, whose rows came one by one."""
    reference = reference_of(before, numeric, categorical, None)
    window = Window(profile_of(now, reference.layout, learnt))
    return compare(reference, window, DriftLimits(**limits), learnt=learnt)


def judged(before, now, **limits):
    return compared(before, now, ["x"], ["kind"], **limits)


def test_the_same_world_is_no_drift():
    """Two samples of the same distribution show no drift."""
    assert judged(sample(5000, 1), sample(5000, 2)).verdict == "no drift"


@pytest.mark.parametrize("rows", [200, 1001, 3000])
def test_small_windows_of_the_same_world_raise_no_alarm(rows):
    """Windows of a few hundred rows with a hundred categories raise no alarm from noise."""
    verdicts = [judged(sample(5000, s), sample(rows, 100 + s)) for s in range(10)]
    assert [v.verdict for v in verdicts] == ["no drift"] * 10


def test_a_category_with_few_rows_a_value_raises_no_alarm():
    """A thousand values of a few rows each are one bucket: what chance makes of them is no drift, and a value that takes over is."""
    values = [f"v{i}" for i in range(1000)]
    before, now = (pd.DataFrame({"kind": np.random.default_rng(s).choice(values, 3000)}) for s in (1, 2))
    assert compared(before, now, [], ["kind"], {"kind": frozenset(values)}).verdict == "no drift"
    # Without the values that a model knows, nothing can be told of a single bucket.
    unknown = compared(before, now, [], ["kind"])
    assert (unknown.verdict, "no verdict on kind: PSI is 0 whatever comes" in unknown.reason) == ("no verdict", True)
    taken_over = now.assign(kind=now["kind"].where(now.index % 10 > 0, "v7"))
    frequent = before.assign(kind=before["kind"].where(before.index % 50 > 0, "v7"))
    assert compared(frequent, taken_over, [], ["kind"]).verdict == "drift"


def test_a_shift_by_a_fifth_of_a_standard_deviation_is_found():
    """It is found each time in 2,000 rows that came one by one."""
    reference = reference_of(sample(20_000, 1), ["x"], ["kind"], None)
    windows = [Window(profile_of(sample(2000, 100 + s, shift=0.2), reference.layout)) for s in range(10)]
    assert [compare(reference, window, DriftLimits()).verdict for window in windows] == ["drift"] * 10


def test_a_shift_is_drift_and_names_the_feature():
    """A shifted feature is drift, and the verdict names the feature."""
    verdict = judged(sample(5000, 1), sample(5000, 2, shift=1.0))
    assert verdict.verdict == "drift"
    assert [f.feature for f in verdict.moved] == ["x"]
    assert "x (PSI" in verdict.reason


def weeks(count, seed, spread=1.0, rows=500):
    """So many weeks of rows, each with a level of its own, and the times of the rows."""
    rng = np.random.default_rng(seed)
    levels = np.repeat(rng.normal(0, spread, count), rows)
    times = pd.Series(pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.arange(count * rows) * 7 / rows, "D"))
    return pd.DataFrame({"x": levels + rng.normal(0, 1, count * rows)}), times


def judged_by_weeks(before, times, now, days=7.0, **window):
    reference = reference_of(before, ["x"], [], times)
    return compare(reference, Window(profile_of(now, reference.layout), days, **window), DriftLimits())


def test_weeks_that_differ_by_themselves_are_no_drift():
    """Each week has a level of its own, so that a week's rows are never like all rows: only a level that no week had is drift."""
    rows, times = weeks(40, 1)
    before, then = rows.iloc[:15_000], times.iloc[:15_000]
    later = [rows.iloc[start : start + 500] for start in range(15_000, 19_000, 500)]
    assert [judged_by_weeks(before, then, week).verdict for week in later].count("drift") == 0
    assert judged_by_weeks(before, then, later[0] + 6).verdict == "drift"
    shuffled = before.sample(frac=1, random_state=1).reset_index(drop=True)
    assert [judged_by_weeks(shuffled, then, week).verdict for week in later].count("drift") > 4


def test_a_limit_from_few_weeks_is_said_to_be_unproven():
    """26 weeks prove a limit; with fewer, or without times, the verdict says so."""
    for count, said in ((10, "unproven: from 10 weeks, 26 are needed"), (30, "")):
        rows, times = weeks(count, 1)
        limits = judged_by_weeks(rows, times, rows.tail(500)).limits
        assert limits.endswith(said)
        assert ("unproven" in limits) == bool(said)
        assert "at most 1 false alarm a quarter (monitor.false_alarms_a_quarter)" in limits
    assert "unproven: the reference has no times" in judged(sample(5000, 1), sample(5000, 2)).limits


def test_the_season_of_last_year_is_a_reference_too():
    """What comes each summer is no drift where the reference has a summer, and the verdict says against which days; without one it is drift."""
    rng = np.random.default_rng(1)
    times = pd.Series(pd.date_range("2023-01-01", "2024-05-31", freq="30min", tz="UTC"))
    summer = times.dt.month.isin([6, 7]).to_numpy()
    before = pd.DataFrame({"x": np.where(summer, 8.0, 0.0) + rng.normal(0, 1, len(times))})
    now = pd.DataFrame({"x": 8 + rng.normal(0, 1, 2000)})
    window = {"start": date(2024, 6, 20), "end": date(2024, 6, 27)}
    known = judged_by_weeks(before, times, now, **window)
    assert known.verdict == "no drift"
    assert "against the season of a year before (2023-06-08 to 2023-07-12)" in known.limits
    spring = times >= pd.Timestamp("2023-08-01", tz="UTC")
    unknown = judged_by_weeks(
        before[spring].reset_index(drop=True), times[spring].reset_index(drop=True), now, **window
    )
    assert unknown.verdict == "drift"
    assert "season" not in unknown.limits


def test_a_stated_limit_is_the_limit():
    """`psi_limit` and `missing_limit` are limits as they are, and the verdict says that no budget stands behind them."""
    verdict = judged(sample(5000, 1), sample(5000, 2, shift=0.3), psi_limit=0.2)
    assert verdict.verdict == "no drift"
    assert "where monitor.psi_limit does not state the limit" in verdict.limits
    assert judged(sample(5000, 1), sample(5000, 2, missing=0.08), missing_limit=0.1).verdict == "no drift"
    assert judged(sample(5000, 1), sample(5000, 2, missing=0.08)).verdict == "drift"


def test_a_smaller_budget_is_a_wider_limit():
    """A limit is the wider the oftener the monitor looks, and the fewer alarms may be false."""
    before, now = sample(5000, 1), sample(2000, 2)
    reference = reference_of(before, ["x"], ["kind"], None)
    window = Window(profile_of(now, reference.layout))
    limits = [
        compare(reference, window, DriftLimits(false_alarms_a_quarter=alarms), looks).features[0].figures["psi_limit"]
        for alarms, looks in ((10, 91), (1, 91), (1, 2184))
    ]
    assert limits == sorted(limits)
    assert len(set(limits)) == 3


@pytest.mark.parametrize(
    ("cron", "looks"),
    [
        ("0 6 * * *", 91),
        ("@hourly", 2184),
        ("*/30 * * * *", 4368),
        ("0 6 * * 1", 13),
        ("0 6 1 * *", 3),
        ("0 6 * * 1#1", 3),
    ],
)
def test_looks_of_a_schedule_are_counted(cron, looks):
    """A budget is shared out over the looks of a quarter: daily, hourly, weekly, monthly."""
    assert runs_a_quarter(cron) == pytest.approx(looks, rel=0.01)


def test_the_picture_runs_no_script_that_a_client_sent(tmp_path):
    """A category, or a column's name, that would end the page's script stands in it as text."""
    end = "</script><script>alert(1)</script>"
    before, now = pd.DataFrame({"x <1": ["a", "b"] * 500}), pd.DataFrame({"x <1": ["a", end] * 500})
    drift_picture.draw(before, now, [], ["x <1"], 100, tmp_path / "picture.html")
    page = (tmp_path / "picture.html").read_text()
    assert "alert(1)" in page
    assert "<script>alert(1)" not in page


def test_missing_values_count():
    """A growing share of missing values is drift."""
    verdict = judged(sample(5000, 1), sample(5000, 2, missing=0.5))
    assert [f.feature for f in verdict.moved] == ["x"]
    assert "missing 0% before" in verdict.reason


def test_a_column_that_is_all_missing_is_drift_not_a_crash():
    """A column that is all missing is drift."""
    assert judged(sample(5000, 1), sample(5000, 2).assign(x=np.nan)).verdict == "drift"


@pytest.mark.parametrize("infinity", [np.inf, -np.inf])
def test_infinities_are_seen(infinity):
    """A column of infinities is drift, and so are some in a hundred; one of them is neither drift nor an error."""
    now = sample(5000, 2)
    assert judged(sample(5000, 1), now.assign(x=infinity)).verdict == "drift"
    some = judged(sample(5000, 1), now.assign(x=now["x"].where(now.index % 100 > 0, infinity)))
    assert "x (infinite 0% before, 1.00% now)" in some.reason
    now.loc[0, "x"] = infinity
    assert judged(sample(5000, 1), now).verdict == "no drift"


@pytest.mark.parametrize("column", ["x", "kind"])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("now", [True, False])
def test_an_empty_column_keeps_no_other_from_its_verdict(tmp_path, column, before, now):
    """Evidently 1480: a column without a value, before or now, is judged by that alone; the others have theirs, and the picture is drawn."""
    other = "kind" if column == "x" else "x"
    tables = [sample(5000, 1), sample(5000, 2, shift=0.0)]
    tables = [t.assign(**{column: None}) if empty else t for t, empty in zip(tables, (before, now), strict=True)]
    verdict = judged(*tables)
    assert [f.feature for f in verdict.moved] == ([column] if before != now else [])
    assert (f"no verdict on {column}: too few values" in verdict.reason) == (before and now)
    figures = {f.feature: f.figures for f in verdict.features}
    assert figures[other]["psi"] is not None
    drift_picture.draw(*tables, ["x"], ["kind"], 500, tmp_path / "report.html")
    assert (tmp_path / "report.html").is_file()


def test_a_table_without_a_value_has_no_verdict():
    """Where no feature has values on both sides, and none changed, nobody knows whether there is drift."""
    nothing = sample(5000, 1).assign(x=None, kind=None)
    verdict = judged(nothing, nothing)
    assert (verdict.verdict, verdict.reason) == ("no verdict", "no feature has values on both sides")


def test_categories_that_training_never_saw_are_drift():
    """A column whose values the model does not know has moved, with a value that shows why; one that it knows has not."""
    known = {"kind": frozenset(f"k{i}" for i in range(100))}
    before, now = sample(5000, 1), sample(5000, 2)
    assert compared(before, now, ["x"], ["kind"], known).verdict == "no drift"
    renamed = now.assign(kind=now["kind"].where(now.index % 5 > 0, now["kind"].str.upper()))
    reference = reference_of(before, ["x"], ["kind"], None)
    window = Window(profile_of(renamed, reference.layout, known))
    verdict = compare(reference, window, DriftLimits(psi_limit=9), learnt=known, examples={"kind": "K5"})
    assert verdict.verdict == "drift"
    assert "kind (20% unknown to the model, e.g. K5" in verdict.reason


@pytest.mark.parametrize(
    "fault",
    [
        lambda x: x * 60,
        lambda x: x * 1.8 + 32,
        lambda x: x * np.nan,
        lambda x: x.mean(),
        lambda x: x.round(),
        lambda x: x + 0.5,
    ],
    ids=["minutes", "fahrenheit", "nulls", "constant", "rounded", "shifted"],
)
def test_errors_of_units_are_found_in_one_look(fault):
    """A number in another unit, without its values, constant or rounded is drift at the first look of 2,000 rows."""
    now = sample(2000, 2)
    assert judged(sample(5000, 1), now.assign(x=fault(now["x"]))).verdict == "drift"


def test_a_constant_that_changes_is_drift():
    """A column of one value has moved when it has another one, below or above."""
    before = pd.DataFrame({"x": 5.0, "kind": ["a"] * 3000})
    for other in (4.9, 5.1):
        assert judged(before, before.assign(x=other)).verdict == "drift"
    assert judged(before, before).verdict == "no drift"


def test_the_report_has_the_figures_of_all_measures():
    """Each feature's figures and reasons are in the report, by the names of the measures that fit it."""
    x, kind = judged(sample(5000, 1), sample(5000, 2, shift=1.0, missing=0.5)).as_dict()["features"]
    shares = ["missing_before", "missing_now", "missing_limit"]
    infinite = ["infinite_before", "infinite_now", "infinite_limit"]
    order = ["kolmogorov_smirnov", "wasserstein"]
    rest = ["times_limit", "importance", "judged", "moved", "reason"]
    outside, values = ["outside", "outside_limit"], ["values", "values_limit"]
    assert list(x) == ["feature", "psi", "psi_limit", *outside, *shares, *values, *infinite, "jensen_shannon", *order, "chi_square", "kullback_leibler", *rest]  # fmt: skip
    assert list(kind) == ["feature", "psi", "psi_limit", *outside, *shares, *values, "unknown", "jensen_shannon", "chi_square", "kullback_leibler", *rest]  # fmt: skip
    assert x["reason"].startswith("PSI ")
    assert x["reason"].endswith(" and missing 0% before, 50% now")
    assert kind["reason"].startswith("PSI ")
    assert " within " in kind["reason"]


@pytest.mark.parametrize("now", [sample(199, 2, shift=5.0), sample(0, 2), sample(5000, 2).drop(columns="x")])
def test_too_little_is_no_verdict(now):
    """Too few rows or a missing column give no verdict."""
    assert judged(sample(5000, 1), now).verdict == "no verdict"


def quality(value, labelled=5000, **interval):
    return LiveQuality("roc_auc", value, 0.8, labelled, 6000, **interval)


def test_decide_gives_reasons_and_what_would_flip_it(settings):
    """A decision to retrain or wait gives its reasons and the input that would change it."""
    limits = settings.model("churn").monitor
    calm = DriftVerdict("no drift", "0 of 2 features moved", 5000, 5000)
    drift = DriftVerdict("drift", "2 of 2 features moved", 5000, 5000)
    assert decide(calm, quality(0.79), limits).decision == "wait"
    assert decide(drift, quality(0.79), limits).decision == "retrain"
    worse = decide(calm, quality(0.7, low=0.68, high=0.72), limits)
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
