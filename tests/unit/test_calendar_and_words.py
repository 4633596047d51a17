"""What a model gets of a time and of a text beside their size: parts of the calendar, and groups of words."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from harness.project import change_params
from pipeline.errors import SettingsError, StageError
from pipeline.rollout import replay
from pipeline.runs import drift_compared
from pipeline.serving.runtime import Runtime
from pipeline.serving.schema import Column, Reader, Rows, Schema, texts
from pipeline.serving.schema.blocks import number_matrix
from pipeline.serving.skops_model import SkopsModel
from pipeline.settings.agreement import faults
from pipeline.settings.models import load
from pipeline.settings.training import Training
from pipeline.training import fit, frames, measured, package, skops_file

PARTS = ("hour", "weekday", "month", "year_day")
ZONE = "Europe/Berlin"
SINCE, NOTE = Column("since", "datetime", parts=PARTS), Column("note", "text", groups=32)
SCHEMA = Schema((SINCE, NOTE), "customer", "seen_at", ZONE)
NOTES = [
    "Größe passt nicht, Rücksendung!",
    "größe PASST",
    "rückgeld? nein-danke",
    "  ",
    "日本語 テスト",
    "a_b 7",
    "…",
    "x" * 900,
]


@pytest.fixture
def churn(settings):
    return settings.model("churn")


def with_training(model, **changed):
    return model.model_copy(update={"training": Training(**(model.training.model_dump() | changed))})


def test_a_time_becomes_the_parts_of_its_calendar_in_the_zone_of_the_source():
    """An hour before midnight UTC is the next day in Berlin, in summer and in winter."""
    rows = Reader(SCHEMA).of_records(
        [{"since": time, "note": None} for time in ("2024-06-30T22:30:00Z", "2024-12-31 23:10", None)]
    )
    parts = rows.numbers[:, 1:5].tolist()
    assert parts[:2] == [[0.0, 0.0, 7.0, 183.0], [23.0, 1.0, 12.0, 366.0]]
    assert np.isnan(rows.numbers[2, :5]).all() and np.isnan(rows.numbers[2, 5:]).all()
    assert Reader(SCHEMA).numbers[:5] == ["since days", "since hour", "since weekday", "since month", "since year_day"]


def test_words_are_counted_by_groups_whatever_their_case():
    """Upper and lower case, umlauts and marks between words change no group; a text without words has none."""
    one, two = texts.encoded("Größe PASST nicht", 32), texts.encoded("größe, passt: nicht!", 32)
    assert one[2:] == two[2:] and sum(one[2:]) == 3.0
    assert sum(texts.encoded("… !", 32)[2:]) == 0.0
    assert texts.encoded("two words") == (9.0, 2.0) == texts.encoded("two words", 32)[:2]


def test_a_group_of_words_has_a_name_that_says_of_how_many():
    """Group 3 of 64 has other words than group 3 of 512, and neither is taken for the other in a log."""
    assert texts.names("note", 64)[2:5] == tuple(f"note word group {n} of 64" for n in (1, 2, 3))
    assert {*texts.names("note", 64)} & {*texts.names("note", 512)} == {"note characters", "note words"}


def test_a_pipeline_of_before_these_names_is_served_as_it_was_learnt():
    """A skops file holds the names of its columns, and of an earlier release these were `note word 3`."""
    import skops.io
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import Pipeline

    rows = Reader(Schema((NOTE,))).of_records([{"note": note} for note in NOTES])
    frame = pd.DataFrame(rows.numbers, columns=list(texts.names_before("note", 32)))
    columns = ColumnTransformer([("numbers", "passthrough", list(frame))])
    fitted = Pipeline([("columns", columns), ("estimator", LinearRegression())]).fit(frame, np.arange(len(frame)))
    served = SkopsModel(skops.io.dumps(fitted), Reader(Schema((NOTE,))), "number")
    assert np.allclose(served(rows.numbers, rows.texts), fitted.predict(frame))


def test_a_request_a_table_and_a_file_give_the_same_numbers():
    """What training reads from a frame is what the door reads from JSON and from arrays."""
    rng = np.random.default_rng(5)
    times = pd.to_datetime(
        rng.integers(-(10**9), 2 * 10**9, 400) * 10**6 + rng.integers(0, 10**6, 400), unit="us", utc=True
    )
    notes = rng.choice(np.array([*NOTES, None], object), 400)
    frame = pd.DataFrame({"since": pd.Series(times).where(rng.random(400) > 0.1), "note": notes})
    trained = number_matrix(frame, SCHEMA.columns, ZoneInfo(ZONE))
    records = [
        {"since": None if pd.isna(row.since) else row.since.isoformat(), "note": row.note or None}
        for row in frame.itertuples()
    ]
    reader = Reader(SCHEMA)
    assert np.array_equal(reader.of_records(records).numbers, trained, equal_nan=True)
    naive = np.array([record["since"] for record in records], object)
    assert np.array_equal(reader.of_arrays({"since": naive, "note": notes}).numbers, trained, equal_nan=True)
    spoken = [[record["since"], record["note"]] for record in records]
    assert np.array_equal(reader.of_table(["since", "note"], spoken).numbers, trained, equal_nan=True)


@pytest.mark.parametrize("groups", [32, 2048])
def test_a_replay_of_the_log_asks_the_same(groups):
    """The log has days in float32 and no text: what is sent in their place is the same to the model, to the hour and the word."""
    rng = np.random.default_rng(6)
    schema = replace(SCHEMA, columns=(SINCE, replace(NOTE, groups=groups)))
    start, reader = datetime(2024, 1, 1, tzinfo=UTC), Reader(schema)
    # Moments beside full hours, which float32 moves over them.
    times = [
        start + timedelta(hours=int(h), seconds=int(s))
        for h, s in zip(rng.integers(0, 20_000, 500), rng.integers(-30, 30, 500), strict=True)
    ]
    records = [
        {"since": time.isoformat(), "note": " ".join(rng.choice(NOTES, rng.integers(1, 4)))} for time in times
    ] + [{"since": None, "note": None}]
    rows = reader.of_records(records)
    days = rows.numbers[:-1, 0].astype("float64")
    moved = [Column("x", "datetime").of_numbers([value]) for value in days[:50].tolist()]
    assert any(pd.Timestamp(a) != b for a, b in zip(moved, times, strict=False))
    again = reader.of_table(reader.names, replay._values(Rows(rows.numbers, rows.texts, rows.keys, rows.times), reader))
    assert np.array_equal(again.numbers, rows.numbers, equal_nan=True)


def test_a_package_of_today_is_served_as_it_was_learnt():
    """A schema from before parts and groups gives days, characters and words alone, and equal schemas give equal bytes."""
    old = {
        "columns": [{"name": "since", "kind": "datetime"}, {"name": "note", "kind": "text"}],
        "key": "",
        "event_time": "",
    }
    read = Schema.from_json(old)
    assert read.numbers == ["since days", "note characters", "note words"]
    assert [column.as_json() for column in read.columns] == old["columns"]
    assert Schema.from_json(json.loads(json.dumps(SCHEMA.as_json()))) == SCHEMA


def noted(rows=1500):
    """Customers who leave when they write of returns, or came on a Monday morning; a tenth of the cells is missing."""
    rng = np.random.default_rng(8)
    said = rng.choice(
        np.array(["Rücksendung bitte", "Lieferung gefällt", "Paketboten freund", "bitte RÜCKSENDUNG"], object), rows
    )
    since = pd.Timestamp("2023-01-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 400 * 24, rows), unit="h")
    local = since.tz_convert(ZONE)
    left = pd.Series(said).str.casefold().str.contains("rücksendung") | ((local.weekday == 0) & (local.hour < 12))
    missing = rng.random((rows, 2)) < 0.1
    return pd.DataFrame(
        {
            "customer": [f"c{i}" for i in range(rows)],
            "seen_at": pd.date_range("2024-02-01", "2024-02-29", periods=rows, tz="UTC").as_unit("us"),
            "since": pd.Series(since).where(~missing[:, 0]).dt.as_unit("us"),
            "note": pd.Series(said, dtype=object).where(~missing[:, 1], None),
            "plan": rng.choice(np.array(["basic", "plus"], object), rows),
            "left": left.astype(float).to_numpy(),
        }
    )


@pytest.mark.parametrize(
    ("estimator", "options", "weights"),
    [
        ("hist_gradient_boosting", {"max_iter": 20}, "counts"),
        ("random_forest", {"n_estimators": 10}, "counts"),
        ("linear", {}, "counts"),
        ("linear", {}, "tf_idf"),
    ],
)
def test_the_parts_and_words_are_learnt_and_served(churn, tmp_path, estimator, options, weights):
    """Each estimator learns from them what days and sizes do not say, and ONNX answers as scikit-learn does."""
    lists = {"numeric": [], "datetime": ["since"], "text": ["note"], "categorical": ["plan"]}
    rows, aucs = noted(), []
    for features in ({}, {"calendar": (*PARTS, "age"), "words": 32, "word_weights": weights}):
        model = with_training(churn, estimator=estimator, options=options, **lists, **features)
        model = model.model_copy(update={"source": model.source.model_copy(update={"timezone": ZONE})})
        fitted = measured.fitted(rows, model)
        asked = rows[frames.held_out(rows, model)]
        frame = frames.features_of(asked, model)
        expected = fit.predict(fitted, frame, model.training)
        from sklearn.metrics import roc_auc_score

        aucs.append(roc_auc_score(asked["left"], expected))
    assert aucs[1] > aucs[0] + 0.05
    skops_file.save(fitted, tmp_path / "model.skops")
    asked.assign(prediction=expected).to_parquet(tmp_path / "predictions.parquet")
    package.build("churn", model, tmp_path / "model.skops", tmp_path / "predictions.parquet", tmp_path / "package")
    runtime = Runtime.load(tmp_path / "package")
    assert runtime.manifest["runtime"] == "onnx"
    assert np.abs(runtime.predict_frame(asked) - expected).max() < 1e-5
    golden = json.loads((tmp_path / "package" / package.GOLDEN).read_text())
    assert all(record["seen_at"] for record in golden["request"]["dataframe_records"])
    answers = runtime.predict(runtime.reader.of_records(golden["request"]["dataframe_records"]))
    assert np.allclose(answers, golden["predictions"], atol=1e-5)


def test_a_word_that_few_texts_have_weighs_more(churn):
    """By the texts that were learnt from; and a text of twice the words weighs as much. A text that is missing has none."""
    lists = {"numeric": [], "text": ["note"], "categorical": [], "words": 32, "word_weights": "tf_idf"}
    model = with_training(churn, estimator="linear", **lists)
    fitted = measured.fitted(
        noted().assign(note=["every rare" if i % 9 == 0 else "every" for i in range(len(noted()))]), model
    )
    asked = noted().head(3).assign(note=["every rare", "every rare every rare", None])
    weights = (
        fitted[0]
        .named_transformers_["words of note"]
        .transform(frames.features_of(asked, model)[[c for c in frames.features_of(asked, model) if " group " in c]])
        .toarray()
    )
    common, rare = sorted(weights[0][weights[0] > 0])
    assert rare > 1.5 * common and common**2 + rare**2 == pytest.approx(1)
    assert weights[1] == pytest.approx(weights[0]) and not weights[2].any()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"words": 0}, "weighs groups of words"),
        ({"estimator": "boosting"}, "splits by a number whatever its weight"),
        ({"estimator": "sklearn.tree.DecisionTreeClassifier"}, "splits by a number whatever its weight"),
    ],
)
def test_weights_of_words_that_change_nothing_are_refused(churn, changes, fault):
    """By the key's name, before a run begins."""
    model = with_training(
        churn,
        **{"text": ["note"], "words": 32, "word_weights": "tf_idf", "estimator": "linear", "options": {}} | changes,
    )
    ((key, why),) = faults(model)
    assert key == "training.word_weights" and fault in why


def test_groups_that_fill_the_memory_are_refused_before_it_is_taken(churn, monkeypatch):
    """One line says how much they take, and what to lower."""
    model = with_training(churn, numeric=[], categorical=[], text=["note"], words=2048)
    monkeypatch.setattr(fit, "GROUPS_BYTES", 1500 * 2048 * 8 - 1)
    with pytest.raises(
        StageError, match="2,048 groups of words of note take 0.0 GiB for 1,500 rows.*lower training.words"
    ):
        fit.fit(noted(), model)


def test_every_group_has_a_word_of_one_letter():
    """So a text that is sent from the log is never longer than the one that was asked."""
    assert {*texts._letters(2048)} == {*range(2048)} and {*map(len, texts._letters(2048).values())} == {1}


def test_what_follows_the_calendar_is_no_drift_of_itself():
    """Drift looks at a time's days and at a text's size."""
    assert SINCE.watched == ("since days",) and NOTE.watched == ("note characters", "note words")


def test_what_drift_leaves_out_is_said(project):
    """A feature with `calendar: true`, and the parts of a time, are named in the verdict; too few others are refused."""
    assert drift_compared.said_left_out(load(project).model("churn"), []) == ""
    change_params(project, "models.churn.gates.contract.columns.calls.calendar", True)
    model = load(project).model("churn")
    said = drift_compared.said_left_out(model, [Column("since", "datetime", parts=("month",)), NOTE])
    assert said == "calls, since month follow the calendar and so cannot drift"
    change_params(project, "models.churn.monitor.features_limit", 3)
    with pytest.raises(SettingsError, match="2 features without the calendar ones"):
        load(project).model("churn")


def test_a_calendar_of_a_column_that_is_no_time_is_told(churn):
    """`training.calendar` may name the parts of single columns, and these are times."""
    model = with_training(churn, datetime=["since"], calendar={"since": ["month"], "plan": ["hour"]})
    assert ("training.calendar.plan", "is no column under training.datetime") in faults(model)
    assert model.training.calendar_of("since") == ("month",) and model.training.calendar_of("other") == ()
