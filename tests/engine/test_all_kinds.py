"""A model with a column of every kind goes from its source to a rebuild, and each door gives the held-out predictions."""

from __future__ import annotations

import io
import time
from datetime import timedelta

import httpx
import mlflow
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv as arrow_csv

from pipeline.context import Context
from pipeline.ledger.events import GatesChecked
from pipeline.ledger.timeline import live_at
from pipeline.monitoring import live_quality
from pipeline.rollout.routing import route_file
from pipeline.rollout.slots import predictions_folder
from pipeline.runs import batch_scoring, edge_export
from pipeline.runs.drift_check import check_drift
from pipeline.runs.drift_report import evidently_file
from pipeline.runs.rebuild import rebuild
from pipeline.runs.retrain import retrain
from pipeline.training import frames
from pipeline.workspaces.dvc_graph import Artifacts
from tests.support import all_kinds
from tests.support.all_kinds import AS_OF, NAME, SEEN
from tests.support.edge import Runner, bare_python

LIMIT_S = 120


@pytest.fixture
def context(tmp_path, entered):
    """A project with the model, and a router before it; nothing is trained yet."""
    project = all_kinds.project(tmp_path / "project")
    return entered(project)


def predictions(answer: httpx.Response) -> list[float]:
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return body["predictions"] if "predictions" in body else body["outputs"][0]["data"]


def live_answers(address: str, rows: pa.Table) -> dict[str, list[float]]:
    """The predictions for the rows through the endpoint, by the form of the request; a drift check finds those of JSON only."""
    out, others = io.BytesIO(), all_kinds.later(rows, 365)
    arrow_csv.write_csv(others, out)
    url, text = f"{address}/invocations", {"content-type": "text/csv"}
    by_pandas = others.to_pandas().to_csv(index=False).encode()
    return {
        "JSON": predictions(httpx.post(url, json={"dataframe_records": all_kinds.records(rows)})),
        "Arrow's CSV": predictions(httpx.post(url, content=out.getvalue(), headers=text)),
        "pandas' CSV": predictions(httpx.post(url, content=by_pandas, headers=text)),
        "v2": predictions(httpx.post(f"{address}/v2/models/{NAME}/infer", json=all_kinds.tensors(others))),
    }


def scored(context: Context, rows: pa.Table, folder) -> dict[str, list[float]]:
    """The predictions of `predict` for the rows, by the form of the file."""
    pq.write_table(rows, folder / "rows.parquet")
    arrow_csv.write_csv(rows, folder / "rows.csv")
    result = {}
    for name in ("rows.parquet", "rows.csv"):
        out = folder / f"of-{name}.parquet"
        live = live_at(context.ledger, NAME)
        batch_scoring.score(context.registry, NAME, folder / name, out, live)
        result[name] = pd.read_parquet(out)["prediction"].tolist()
    return result


def in_mlflow(context: Context, held_out: pd.DataFrame) -> list[float]:
    """What the version in MLflow predicts from the very frame that it came from, with a signature (MLflow 25593)."""
    model = mlflow.pyfunc.load_model(f"models:/{NAME}/1")
    assert model.metadata.get_input_schema().input_names() == all_kinds.LOGGED
    return model.predict(frames.feature_frame(held_out, context.params.model(NAME).training)).tolist()


def send(address: str, rows: pa.Table) -> None:
    """Asks for the rows, as JSON."""
    predictions(httpx.post(f"{address}/invocations", json={"dataframe_records": all_kinds.records(rows)}))


def wait_for_log(context: Context, rows: int) -> None:
    """Until the log holds so many answered rows: a slot writes it each second."""
    until = time.monotonic() + LIMIT_S
    while (found := live_quality.logged(predictions_folder(context.home, NAME))) < rows:
        assert time.monotonic() < until, f"{found} of {rows} rows are logged"
        time.sleep(0.1)


def counter(slot: str, name: str) -> str:
    """The line of a slot's counter."""
    return next(line for line in httpx.get(f"{slot}/metrics").text.splitlines() if line.startswith(f"{name}{{"))


def held_out_rows() -> pa.Table:
    """The held-out rows as the source has them, with labels that were known at the as-of."""
    table = all_kinds.table()
    seen, known = (table[name].to_pandas() for name in (SEEN, all_kinds.KNOWN))
    first = AS_OF - timedelta(days=all_kinds.HELD_OUT_DAYS)
    return all_kinds.asked(table.filter(pa.array((seen >= first) & (known <= AS_OF))))


def rows_with_new_categories(rows: pa.Table) -> int:
    """How many of the held-out rows have a category that no row before them has."""
    table = all_kinds.table()
    before = table.filter(pa.array(table[SEEN].to_pandas() < AS_OF - timedelta(days=all_kinds.HELD_OUT_DAYS)))
    learnt = {name: {*before[name].to_pylist(), None} for name in all_kinds.GROWING}
    return sum(any(row[name] not in known for name, known in learnt.items()) for row in rows.to_pylist())


def changed(rows: pa.Table) -> pa.Table:
    """The rows a week later: one column of numbers has moved, one is empty, a category is spelt in a way that nobody learnt."""
    moved = pa.array([None if v is None else v / 100 for v in rows["double"].to_pylist()], pa.float64())
    upper = pa.array([None if v is None else v.upper() for v in rows["plan"].to_pylist()], pa.string())
    empty = pa.nulls(len(rows), pa.bool_())
    for name, column in (("double", moved), ("plan", upper), ("flag", empty)):
        rows = rows.set_column(rows.column_names.index(name), name, column)
    return all_kinds.later(rows, 7)


def unknown_reason(context: Context) -> str:
    """What the gate said about categories that training never saw."""
    verdicts = context.ledger.events(GatesChecked, run="one")[-1].event.verdicts
    return next(verdict["reason"] for verdict in verdicts if verdict["gate"] == "unknown_categories")


def test_a_model_of_every_kind_goes_from_its_source_to_a_rebuild(context, tmp_path):
    """Snapshot, training, gates, slot, file, log, drift check and rebuild read one table alike, and count what no training saw."""
    assert retrain(context, "one", NAME, AS_OF, "a test", deploy=True).version == "1"
    for name in all_kinds.GROWING:
        assert f"{name} " in unknown_reason(context)
    held_out = pd.read_parquet(Artifacts(context.home / "workspaces" / "one", NAME).served_predictions)
    rows = held_out_rows()
    address = f"{context.environment.router_addresses.url}/{NAME}"
    answers = live_answers(address, rows) | scored(context, rows, tmp_path)
    assert answers["JSON"] == pytest.approx(held_out["prediction"].tolist(), abs=1e-6)
    assert {form: given == answers["JSON"] for form, given in answers.items()} == dict.fromkeys(answers, True)

    edge_export.export(context, NAME, "", tmp_path / "edge")
    with Runner(bare_python(tmp_path / "venv"), tmp_path / "edge") as runner:
        runner.says(f"{NAME} version 1 on http")
        at_the_edge = live_answers(runner.address, rows)
        assert at_the_edge == {form: answers[form] for form in at_the_edge}

    assert in_mlflow(context, held_out) == held_out["prediction"].tolist()
    forms = len(answers) - 2
    new = rows_with_new_categories(rows)
    slot = route_file.read(context.home, NAME).live.address
    assert f"}} {float(new * forms)}" in counter(slot, "perennial_unknown_category_rows_total")
    wait_for_log(context, len(rows) * forms)
    quiet = check_drift(context, "same", NAME, AS_OF)
    assert quiet.drift.verdict == "no drift", quiet.drift.reason
    compared = {*all_kinds.LOGGED} - {*all_kinds.PERSONAL}
    assert {feature.feature for feature in quiet.drift.features} == compared
    assert quiet.live_quality.labelled == len(rows)
    assert quiet.live_quality.value == pytest.approx(quiet.live_quality.held_out)
    assert quiet.answers.now == pytest.approx(quiet.answers.before, abs=1e-6) and quiet.answers.jensen_shannon < 0.1
    assert abs(quiet.estimated.value - quiet.live_quality.value) < 3 * quiet.estimated.usual_error
    send(address, changed(rows))
    wait_for_log(context, len(rows) * (forms + 1))
    alarm = check_drift(context, "changed", NAME, AS_OF + timedelta(days=7))
    assert alarm.drift.verdict == "drift"
    assert {feature.feature for feature in alarm.drift.moved} == {"double", "plan", "flag"}
    drawn_by_evidently = [evidently_file(check.report).exists() for check in (quiet, alarm)]
    assert drawn_by_evidently == [False, True]

    rebuilt = rebuild(context, NAME, "1")
    assert rebuilt.identical, rebuilt.compared
