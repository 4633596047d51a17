"""A model without source.key goes through its stages, and its labels find its answers however cells are spelt."""

import json
import random
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import orjson
import pandas as pd
import pytest

from harness.commands import said
from harness.project import CHURN, change_params, customers, make_project
from harness.router import router
from pipeline.data import contract, snapshot
from pipeline.monitoring import live_quality
from pipeline.runs import stages
from pipeline.serving import forms
from pipeline.serving.prediction_log import AnsweredRequest, LogSchema, PredictionLog
from pipeline.serving.schema import Reader, Schema
from pipeline.settings.models import load

START = datetime(2024, 2, 5, tzinfo=UTC)
AS_OF = datetime(2024, 3, 1, tzinfo=UTC)
FEATURES = ["spend", "paid", "shop", "vip", "plan", "joined", "note"]
DRAW = random.Random(5)


@pytest.fixture
def keyless(project):
    """The project, whose model has no key, and columns of each kind."""
    for key, value in {
        "source.query": None,
        "source.files": ["customers/*.csv"],
        "source.key": None,
        "training.numeric": ["spend", "paid"],
        "training.categorical": ["shop", "vip", "plan"],
        "training.datetime": ["joined"],
        "training.text": ["note"],
        "gates.contract": {"min_rows": 1, "columns": {"shop": {"type": "number", "nullable": True}}},
    }.items():
        change_params(project, f"models.churn.{key}", value)
    (project / "customers" / "all.parquet").unlink()
    return project


# A value by how a source's text, a typed cell and a request may have it.
SPELT = {
    "spend": [
        (["10", "10.0", "+10", " 1e1 "], 10.0, [10, 10.0, "10", "1e1"]),
        (["0.1", "0.10", ".1", "1e-1"], 0.1, [0.1, "0.1", ".10"]),
        (["-0", "0", "0.0"], -0.0, [0, -0.0, "0.0"]),
        (["16777217"], 16777217.0, [16777217, 16777216, "16777217.0"]),
        (["", "NA"], None, [None, float("nan"), ""]),
    ],
    "paid": [(["true", "yes", "True"], True, [1, 1.0, "1"]), (["false", "no"], False, [0, "0.0"])],
    "shop": [
        (["2", "2.0", "+2"], 2.0, [2, 2.0, "2", "2.0"]),
        (["2.5", "2.50"], 2.5, [2.5, "2.5", "2.50"]),
        ([""], None, [None, "", float("nan")]),
    ],
    "vip": [(["true", "True", "TRUE"], True, [True, "true", "True"]), (["false", "False"], False, [False, "false"])],
    "joined": [
        (
            ["2023-05-06 07:08:09.5", "2023-05-06T09:08:09.5+02:00"],
            datetime(2023, 5, 6, 7, 8, 9, 500000, tzinfo=UTC),
            ["2023-05-06T07:08:09.500Z", "2023-05-06 07:08:09,5 UTC"],
        ),
        (["2024-01-01"], datetime(2024, 1, 1, tzinfo=UTC), ["2024-01-01", "2024-01-01T00:00:00Z"]),
        ([""], None, [None, ""]),
    ],
    "note": [(["two words"], "two words", ["two words"]), (["größer"], "größer", ["größer"]), ([""], None, [None, ""])],
    "plan": [(["basic"], "basic", ["basic"]), (["Übung, x"], "Übung, x", ["Übung, x"]), ([""], None, [None, ""])],
}


def drawn(count):
    """Rows as (texts of a source, typed cells, cells of a request), each cell in a spelling of its own."""
    rows = []
    for number in range(count):
        at = START + timedelta(hours=number, microseconds=DRAW.choice([0, 123456]))
        local = at.astimezone(tz=None).isoformat()
        values = {name: DRAW.choice(SPELT[name]) for name in FEATURES}
        label = {"left": float(DRAW.random() < 0.4), "decided_at": at + timedelta(hours=2)}
        texts = {name: DRAW.choice(cells[0]) for name, cells in values.items()}
        typed = {name: cells[1] for name, cells in values.items()}
        asked = {name: DRAW.choice(cells[2]) for name, cells in values.items()}
        time = {"seen_at": DRAW.choice([at.isoformat(), at.isoformat(" "), local])}
        rows.append((texts | time | label, typed | {"seen_at": at} | label, asked | time))
    return rows


def logged(folder, reader, requests):
    """The prediction log after these requests, in one of the forms each."""
    log = PredictionLog(folder, "blue", "1", LogSchema(reader, "1", "blue"), lambda rows: None)
    for number, row in enumerate(requests):
        bodies = [
            {"dataframe_records": [row]},
            {"instances": [row]},
            {"inputs": {name: [cell] for name, cell in row.items()}},
            {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}},
        ]
        parsed = forms.invocations(orjson.dumps(DRAW.choice(bodies)), reader, 9)
        log.add(AnsweredRequest(f"r{number}", AS_OF.timestamp() - 9e4 + number, parsed.rows, np.array([0.5])))
    log.close()


def test_a_row_has_one_key_however_it_is_spelt(keyless):
    """As texts of a CSV, as typed cells of a Parquet file, and in each form of a request, in any spelling."""
    rows = drawn(400)
    pd.DataFrame([texts for texts, _, _ in rows]).to_csv(keyless / "customers" / "all.csv", index=False)
    model = load(keyless).model("churn")
    snapshot.take("churn", model, keyless, keyless / "one", keyless / "one.json", keyless / "partitions.db")
    schema = Schema.of_snapshot(keyless / "one")
    assert [column.spelling for column in schema.columns if column.is_category] == ["number", "truth", "text"]
    logged(keyless / "log", Reader(schema), [asked for _, _, asked in rows])
    of_texts = live_quality.labels(model, keyless, START, AS_OF, "churn")
    typed = pd.DataFrame([cells for _, cells, _ in rows]).astype({"spend": "float64", "shop": "float64"})
    typed.to_parquet(keyless / "customers" / "all.parquet")
    change_params(keyless, "models.churn.source.files", ["customers/*.parquet"])
    of_cells = live_quality.labels(load(keyless).model("churn"), keyless, START, AS_OF, "churn")
    found = live_quality.read_log(keyless / "log", model, START, AS_OF).rows.sort_values("event_time")
    assert of_texts.key.tolist() == of_cells.key.tolist() == found.key.tolist()
    assert len(set(found.key)) == len(rows) == len(of_texts)
    quality = live_quality.quality(found, of_texts, model, 0.5)
    assert (quality.labelled, quality.predictions, quality.alike, quality.other_time) == (400, 400, 0, 0)


def test_rows_that_are_alike_are_kept_and_said(keyless):
    """The contract quarantines none of them, counts them, and the stage says so; a gate stops no run for them."""
    rows = [texts for texts, _, _ in drawn(60)]
    pd.DataFrame([*rows, rows[0], {**rows[0], "left": 1 - rows[0]["left"]}]).to_csv(
        keyless / "customers" / "all.csv", index=False
    )
    model = load(keyless).model("churn")
    files = stages.Artifacts(keyless, "churn")
    files.folder.mkdir(parents=True)
    snapshot.take("churn", model, keyless, files.snapshot, files.counts, keyless / "partitions.db")
    report = contract.check("churn", model, files.snapshot, files.counts, files.quarantine, files.validation)
    assert (report["kept"], report["quarantined"], report["alike"]) == (62, 0, 2)
    assert "62 rows kept, 0 in quarantine; 2 of the kept are like another" in stages.validate("churn", model, files)


def test_a_model_without_a_key_goes_live_and_its_labels_find_its_answers(tmp_path, monkeypatch):
    """With times as numbers: JSON, CSV and tensors without a key are answered, drift and live quality are known, a file is scored."""
    source = CHURN["source"] | {"query": None, "files": ["customers/*.parquet"], "key": None, "epoch": "us"}
    block = CHURN | {"source": source, "monitor": {"cron": "0 6 * * *", "window_days": 30, "min_rows": 20}}
    project = make_project(tmp_path / "project", {"churn": block})
    monkeypatch.chdir(project)
    frame = customers().drop(columns=["customer"])
    for column in ("seen_at", "decided_at"):
        frame[column] = frame[column].dt.as_unit("us").astype("int64")
    frame.to_parquet(project / "customers" / "all.parquet")
    rows = frame.tail(40).drop(columns=["left", "decided_at"])
    records = rows.astype(object).where(rows.notna(), None).to_dict("records")
    kinds = {"spend": "FP64", "calls": "FP64", "plan": "BYTES", "seen_at": "INT64"}
    tensors = [
        {"name": n, "shape": [20], "datatype": kind, "data": [r[n] for r in records[20:]]} for n, kind in kinds.items()
    ]
    with router(project, project / ".perennial") as at:
        addresses = {"PERENNIAL_ROUTER_URL": at.router, "PERENNIAL_ROUTER_API_URL": at.router_api}
        try:
            done = said(["retrain", "churn", "--deploy", "--json"], **addresses)
            assert done.returncode == 0, done.stderr
            url = f"{at.router}/churn/invocations"
            lines = "\n".join([",".join(kinds), *(",".join(str(r[n]) for n in kinds) for r in records[:10])])
            by_csv = httpx.post(url, content=lines, headers={"content-type": "text/csv"})
            by_json = httpx.post(url, json={"dataframe_records": records[10:20]})
            by_tensor = httpx.post(f"{at.router}/churn/v2/models/churn/infer", json={"inputs": tensors})
            assert by_tensor.status_code == 200, by_tensor.text
            live = [
                *by_csv.json()["predictions"],
                *by_json.json()["predictions"],
                *by_tensor.json()["outputs"][0]["data"],
            ]
            untimed = httpx.post(url, json={"dataframe_records": [records[0] | {"seen_at": None}]})
            assert untimed.status_code == 200
            assert "customer is unknown" in httpx.post(url, json={"instances": [records[0] | {"customer": "c"}]}).text
            rows.to_parquet("in.parquet")
            scored = said(["predict", "churn", "--input", "in.parquet", "--output", "out.parquet"])
            assert scored.returncode == 0, scored.stderr
            assert pd.read_parquet("out.parquet")[["seen_at", "prediction"]].to_numpy().tolist() == [
                [float(r["seen_at"]), p] for r, p in zip(records, live, strict=True)
            ]
            checked = said(["drift", "churn", "--as-of", "2024-03-19T00:00:00Z", "--json"], **addresses)
            assert checked.returncode == 0, checked.stderr
            drift = json.loads(checked.stdout)
            assert (drift["live_quality"]["labelled"], drift["live_quality"]["alike"]) == (40, 0)
            assert drift["rows_now"] == 40
        finally:
            said(["undeploy", "churn"], **addresses)
