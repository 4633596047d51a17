"""A model that learns from times and free texts: snapshot, contract, training, package, gates, `predict`, log and replay."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from harness.project import CHURN, change_params, customers
from pipeline.data import contract
from pipeline.errors import DataError
from pipeline.gates import champion, onnx_parity, schema
from pipeline.gates.base import PackagedModel
from pipeline.ledger.timeline import LiveVersion
from pipeline.rollout import paired, replay
from pipeline.runs import batch_scoring
from pipeline.serving import forms
from pipeline.serving.app import App
from pipeline.serving.identity import Identity
from pipeline.serving.prediction_log import AnsweredRequest, LogSchema
from pipeline.serving.runtime import Runtime
from pipeline.serving.schema import Column, Reader, Schema
from pipeline.settings.models import Model, load
from pipeline.training import evaluate, fit, package, skops_file
from pipeline.workspaces.dvc_graph import Artifacts
from tests.component.test_drawn_schema import partitions, take

ZONE = "America/New_York"
LISTS = {"datetime": ["since"], "text": ["note"]}


def frame_of(**columns) -> pd.DataFrame:
    """The customers with the day on which each came, which decides as much as the calls do, and a note of their calls."""
    frame = customers()
    days = pd.Timestamp("2023-01-01") + pd.to_timedelta((frame["spend"] * 3_600).round(), unit="s")
    notes = [None if calls != calls else f"they rang,\n{'again, ' * int(calls)}ok" for calls in frame["calls"]]
    return frame.assign(since=days.dt.as_unit("us"), note=notes, **columns)


def write(project, frame):
    for file in (project / "customers").iterdir():
        file.unlink()
    pq.write_table(
        frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame), project / "customers" / "a.parquet"
    )


@pytest.fixture
def noted(project):
    """The project, whose model has a time and a text among its features."""
    change_params(project, "models.churn.source.timezone", ZONE)
    for key, names in LISTS.items():
        change_params(project, f"models.churn.training.{key}", names)
    write(project, frame_of())
    return project


def with_since(frame, kind):
    """The frame with its times as a file may have them: local, as instants, in other units, as texts of both."""
    instants = frame["since"].dt.tz_localize(ZONE)
    match kind:
        case "text":
            return frame.assign(since=frame["since"].dt.strftime(" %Y-%m-%d %H:%M:%S "))
        case "text with a zone":
            return frame.assign(since=instants.dt.tz_convert("Asia/Kolkata").map(lambda time: time.isoformat()))
        case "instant":
            return frame.assign(since=instants.dt.tz_convert("Asia/Kolkata"))
    return frame.assign(since=frame["since"].astype(f"datetime64[{kind}]"))


@pytest.mark.parametrize("kind", ["us", "ns", "ms", "s", "text", "text with a zone", "instant"])
def test_a_time_is_one_instant_however_its_column_spells_it(noted, kind):
    """Each type and text of the same times gives the very bytes of the same partitions."""
    expected = partitions(take(noted))
    write(noted, with_since(frame_of(), kind))
    assert partitions(take(noted, "two")) == expected
    assert [Schema.of_snapshot(noted / "two")[name].kind for name in ("since", "note")] == ["datetime", "text"]


def test_a_date_is_the_begin_of_its_day_and_a_hooks_frame_is_read_like_a_file(noted, monkeypatch):
    """A DATE, its text and the local midnight are one instant; so are the objects of a frame."""
    midnight = frame_of()["since"].dt.normalize()
    write(noted, frame_of().assign(since=midnight))
    expected = partitions(take(noted))
    for number, since in enumerate((midnight.dt.date, midnight.dt.strftime("%Y-%m-%d"))):
        write(noted, frame_of().assign(since=since))
        assert partitions(take(noted, f"again{number}")) == expected
    monkeypatch.syspath_prepend(noted)
    (noted / "rows_with_times.py").write_text(
        "import pandas as pd\n\n\ndef rows(start, end):\n    frame = pd.read_parquet('customers/a.parquet')\n"
        "    return frame[(frame.seen_at >= start) & (frame.seen_at < end)].astype({'since': object, 'note': object})\n"
    )
    change_params(noted, "models.churn.source.query", None)
    change_params(noted, "models.churn.source.hook", "rows_with_times:rows")
    assert partitions(take(noted, "hook")) == expected


def test_texts_that_are_no_times_and_texts_that_no_request_may_have_are_quarantined(noted):
    """Their rows break the contract, with the text as example; a missing text or time breaks it only where it must not be missing."""
    frame = with_since(frame_of(), "text")
    a, b, c, d = frame.index[frame["seen_at"] >= "2024-02-10"][:4]
    frame.loc[a, "since"], frame.loc[b, "since"] = "02/10/2024", "20240210"
    frame.loc[c, "note"], frame.loc[d, "since"] = "ü" * 20_000, None
    write(noted, frame)
    rules = {**CHURN["gates"]["contract"]["columns"], "since": {"nullable": False}}
    change_params(noted, "models.churn.gates.contract.columns", rules)
    folder = take(noted)
    files = [noted / name for name in ("one.json", "q.parquet", "r.json")]
    report = contract.check("churn", load(noted).model("churn"), folder, *files)
    faults = {(fault["column"], fault["check"]): fault for fault in report["faults"]}
    assert faults["since", "time"]["examples"] == ["02/10/2024", "20240210"]
    assert faults["since", "not_nullable"]["rows"] == 1
    assert faults["note", "at most 32 KiB"]["examples"] == ["ü" * 100]
    assert report["quarantined"] == 4


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("since", 20240201, "column since holds BIGINT, not a time; .*list it in models.churn.training.numeric"),
        (
            "since",
            "soon",
            "column since is no time in .* rows, e.g. 'soon'; .*list it in models.churn.training.categorical",
        ),
        ("since", "it was in the spring", "column since is no time in .* rows"),
        ("since", [1], r"column since holds BIGINT\[\], not a time; .*cast it in models.churn.source.query"),
        ("since", None, "column since has a value in no row; .*take it out of models.churn.training.datetime"),
        ("note", None, "column note has a value in no row; .*take it out of models.churn.training.text"),
        ("note", 7, "column note holds BIGINT, not text; .*list it in models.churn.training.numeric"),
        (
            "note",
            pd.Timestamp("2024-02-01"),
            "column note holds TIMESTAMP.*, not text; .*list it in .*training.datetime",
        ),
        ("spend", pd.Timestamp("2024-02-01"), "column spend holds TIMESTAMP.*, not a number; .*in .*training.datetime"),
        (
            "spend",
            "2024-02-01",
            "column spend is no number in .*, e.g. '2024-02-01'; .*in models.churn.training.datetime",
        ),
    ],
)
def test_a_column_under_the_wrong_key_is_one_line_that_names_the_right_one(noted, column, cell, message):
    """What a column holds decides where it belongs."""
    frame = frame_of()
    write(noted, frame.assign(**{column: [cell] * len(frame)}))
    with pytest.raises(DataError) as refused:
        take(noted)
    assert pd.Series(str(refused.value).replace("\n", " ")).str.contains(message)[0], str(refused.value)


def test_times_without_end_are_refused_by_name(noted):
    """An infinite time is no number of days."""
    query = CHURN["source"]["query"].replace("SELECT *", "SELECT * REPLACE ('infinity'::TIMESTAMP AS since)")
    change_params(noted, "models.churn.source.query", query)
    with pytest.raises(DataError, match="column since holds .* times that are infinite"):
        take(noted)


def trained(model, rows, files, snapshot=None):
    """What the stages from training on make of `rows`."""
    files.folder.mkdir(parents=True)
    skops_file.save(fit.fit(rows, model), files.model)
    evaluate.evaluate(model, rows, files.model, files.predictions, files.reference, files.metrics)
    package.build("churn", model, files.model, files.predictions, files.package, snapshot)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(the model's block, its files), made of rows in a snapshot's neutral form."""
    source = {**CHURN["source"], "timezone": ZONE}
    model = Model.model_validate({**CHURN, "source": source, "training": {**CHURN["training"], **LISTS}})
    files = Artifacts(tmp_path_factory.mktemp("noted"), "churn")
    rows = with_since(frame_of(), "instant")
    trained(model, rows[(rows["seen_at"] >= "2024-02-01") & (rows["seen_at"] < model.as_of)], files)
    return model, files


def gated(model, files, champion_package=None):
    return PackagedModel(
        model,
        {},
        SimpleNamespace(baseline={"roc_auc": 0.5}),
        pd.read_parquet(files.predictions),
        Runtime.load(files.package),
        champion_package,
        "1" if champion_package else "",
    )


@pytest.mark.parametrize(
    ("estimator", "runtime"),
    [("random_forest", "onnx"), ("linear", "onnx"), ("linear", "skops")],
)
def test_the_package_answers_the_held_out_rows_as_evaluation_did(noted, estimator, runtime):
    """Through the door, as JSON: with each estimator and from both runtimes."""
    options = {"n_estimators": 10} if estimator == "random_forest" else {}
    for key, value in {"estimator": estimator, "runtime": runtime, "options": options}.items():
        change_params(noted, f"models.churn.training.{key}", value)
    model, files, snapshot = load(noted).model("churn"), Artifacts(noted / "built", "churn"), take(noted)
    trained(model, contract.read_snapshot(snapshot), files, snapshot)
    told = onnx_parity.verdict(gated(model, files))
    assert told.passed, told.reason
    golden = json.loads((files.package / package.GOLDEN).read_text())
    served = Runtime.load(files.package)
    asked = served.reader.of_records(golden["request"]["dataframe_records"])
    assert np.allclose(served.predict(asked), golden["predictions"], atol=1e-4)
    # The gate asked for each held-out row, of which some have no note; which ones are golden is chance.
    assert pd.read_parquet(files.predictions)["note"].isna().any()
    assert served.reader.numbers == ["spend", "calls", "since days", "note characters", "note words"]


def test_predict_scores_files_and_the_log_of_the_slot(built, tmp_path):
    """The table as Parquet, as CSV and as the prediction log has it gives the answers to its requests."""
    model, files = built
    served = Runtime.load(files.package)
    rows = frame_of().tail(300)[["customer", "seen_at", "spend", "calls", "plan", "since", "note"]]
    plain = rows.assign(since=rows["since"].dt.strftime("%Y-%m-%dT%H:%M:%S"), seen_at=rows["seen_at"].astype(str))
    parsed = served.reader.of_records(plain.astype(object).where(plain.notna(), None).to_dict("records"))
    expected = served.predict(parsed)
    rows.to_parquet(tmp_path / "typed.parquet")
    with_since(rows, "instant").to_parquet(tmp_path / "instants.parquet")
    plain.to_csv(tmp_path / "texts.csv", index=False)
    log = LogSchema(served.reader, "1", "blue").table([AnsweredRequest("r", 1.7e9, parsed, expected)])
    pq.write_table(pa.table(log), tmp_path / "log.parquet")
    registry = SimpleNamespace(runtime=lambda *_: Runtime.load(files.package))
    live = LiveVersion("1", "blue", None, "2024-01-01T00:00:00.000Z", "d")
    for name in ("typed.parquet", "instants.parquet", "texts.csv", "log.parquet"):
        batch_scoring.score(registry, "churn", tmp_path / name, tmp_path / "out.parquet", live)
        assert np.array_equal(pd.read_parquet(tmp_path / "out.parquet")["prediction"], expected), name
    assert model.training.features == ["spend", "calls", "since", "note", "plan"]


def test_the_log_has_no_text_and_a_replay_asks_the_same_all_the_same(built):
    """Of a text the log has its size, and with `drop` nothing; what is sent again is the same to the model."""
    _, files = built
    served = Runtime.load(files.package)
    records = [
        {"spend": 1.5, "calls": 2, "plan": "plus", "since": "2024-02-01T10:20:30.5Z", "note": "call me at Bob's"}
    ]
    records += [records[0] | {"since": None, "note": None}, records[0] | {"note": " \n"}]
    rows = served.reader.of_records(records)
    answered = AnsweredRequest("r", 1.7e9, rows, served.predict(rows))
    table = pa.table(LogSchema(served.reader, "1", "blue").table([answered]))
    assert "Bob" not in str(table.to_pylist())
    features = table["features"].to_pylist()
    assert [row["note words"] for row in features][::2] == [4.0, 0.0]
    logged = paired.features_of(table)
    again = paired.rows_of(logged, served)
    assert np.array_equal(again.numbers, rows.numbers, equal_nan=True)
    sent = served.reader.of_table(served.reader.names, replay._values(again, served.reader))
    assert np.array_equal(sent.numbers, rows.numbers, equal_nan=True)
    assert sent.texts.tolist() == rows.texts.tolist()
    assert np.array_equal(served.predict_logged(table.to_pandas()["features"].apply(pd.Series)), answered.predictions)
    dropped = LogSchema(served.reader, "1", "blue", {"note": "drop", "since": "drop"}).table([answered])
    assert set(pa.table(dropped)["features"].to_pylist()[0]) == {"spend", "calls", "plan"}
    # A version that had the column as a number finds no such number, where days would be taken for it.
    number = Runtime.load(files.package)
    fields = [Column("since") if c.name == "since" else c for c in served.reader.fields]
    number.reader = Reader(Schema(tuple(fields)))
    with pytest.raises(ValueError, match="the log has no column since"):
        paired.rows_of(logged, number)


def test_the_v2_protocol_takes_times_and_texts_as_bytes_and_no_number_as_a_time(built):
    """Its metadata says so; another datatype is a 400 that names the right one; the example of the page /docs runs as it stands."""
    served, identity = Runtime.load(built[1].package), Identity("churn", "1", "blue")
    told = forms.metadata(served.reader, identity, served.platform)["inputs"]
    datatypes = {tensor["name"]: tensor["datatype"] for tensor in told}
    assert list(datatypes) == ["spend", "calls", "since", "note", "plan"]
    assert (datatypes["since"], datatypes["note"]) == ("BYTES", "BYTES")
    client = TestClient(App(served, None, identity))
    page = client.get("/openapi.json").json()
    row = page["components"]["schemas"]["Row"]["properties"]
    assert (row["since"]["format"], row["note"]["type"]) == ("date-time", "string")
    posts = {path: of["post"]["requestBody"]["content"] for path, of in page["paths"].items() if "post" in of}
    for path, content in posts.items():
        for kind, body in content.items():
            example = body["example"]
            sent = example if isinstance(example, str) else json.dumps(example)
            answer = client.post(path, content=sent, headers={"content-type": kind})
            assert answer.status_code == 200, answer.text
    inputs = posts["/v2/models/churn/infer"]["application/json"]["example"]["inputs"]
    for name, values in (("since", [8_797.5]), ("note", [3.0])):
        wrong = [t | {"datatype": "FP64", "data": values} if t["name"] == name else t for t in inputs]
        refused = client.post("/v2/models/churn/infer", json={"inputs": wrong})
        assert refused.status_code == 400
        assert f"input {name}: datatype must be one of BYTES for this column; got FP64" in refused.text


def test_a_column_of_another_kind_is_a_schema_change_and_no_comparison(built):
    """A category that became a free text is said by both gates that look at the live version."""
    model, files = built
    before = Runtime.load(files.package)
    renamed = Schema(tuple(c if c.name != "note" else type(c)("note", "category") for c in before.reader.fields))
    live = SimpleNamespace(reader=SimpleNamespace(schema=renamed), task=before.task)
    packaged = gated(model, files, live)
    assert "column note is now free text" in schema.verdict(packaged).reason
    assert "needs note, which the data no longer has" in champion.verdict(packaged).reason
    for verdict in (champion.verdict, schema.verdict, onnx_parity.verdict):
        told = verdict(gated(model, files, before))
        assert told.passed, told.reason
