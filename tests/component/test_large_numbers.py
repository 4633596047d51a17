"""Ids around 1e9, whose last digits say what a customer does: from the source to the answer, with no digit lost."""

from copy import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from types import SimpleNamespace

import numpy as np
import orjson
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from harness.project import CHURN, change_params, customers, make_project
from pipeline.data import contract
from pipeline.errors import StageError
from pipeline.gates import onnx_parity
from pipeline.gates.base import PackagedModel
from pipeline.monitoring import live_quality
from pipeline.rollout import replay
from pipeline.rollout.paired import features_of, rows_of
from pipeline.runs import batch_scoring, block_columns, stages
from pipeline.serving import forms
from pipeline.serving.identity import Identity
from pipeline.serving.prediction_log import AnsweredRequest, LogSchema, PredictionLog
from pipeline.serving.runtime import Runtime
from pipeline.serving.schema import Reader, RowRefused
from pipeline.settings.models import load
from pipeline.training import fit, frames, package, skops_file
from pipeline.workspaces.dvc_graph import Artifacts
from tests.support.golden import golden_answers

ACCOUNTS = 40
FIRST = 1_000_000_000
OPTIONS = {"hist_gradient_boosting": {"max_iter": 30}, "linear": {}}


def accounts(estimator):
    """Customers with an account, which alone says whether they leave: those of odd accounts to a tree, the higher ones to a line."""
    frame = customers()
    account = np.random.default_rng(5).integers(0, ACCOUNTS, len(frame))
    sure = account % 2 if estimator != "linear" else account >= ACCOUNTS // 2
    chance = np.where(sure, 0.92, 0.08)
    left = (np.random.default_rng(6).random(len(frame)) < chance).astype(float)
    return frame.assign(account=FIRST + account, left=left)


def changed(folder, estimator):
    accounts(estimator).to_parquet(folder / "customers" / "all.parquet")
    training = CHURN["training"] | {"numeric": ["spend", "calls", "account"], "estimator": estimator}
    change_params(folder, "models.churn.training", training | {"options": OPTIONS.get(estimator, {})})
    return Artifacts(folder, "churn"), load(folder).model("churn")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model with that estimator after each of its stages: settings, files, what the stages say, its runtime, the held-out rows."""

    @cache
    def train(estimator):
        folder = make_project(tmp_path_factory.mktemp(estimator) / "project", {"churn": CHURN})
        files, model = changed(folder, estimator)
        files.folder.mkdir(parents=True)
        with pytest.MonkeyPatch.context() as here:
            here.chdir(folder)
            said = {name: stage("churn", model, files) for name, stage in stages.STAGES.items()}
        runtime, held_out = Runtime.load(files.package), pd.read_parquet(files.served_predictions)
        return SimpleNamespace(model=model, files=files, said=said, runtime=runtime, held_out=held_out)

    return train


def asked(held_out, runtime):
    """The held-out rows in each form of a request."""
    reader, rows = runtime.reader, held_out[["spend", "calls", "account", "plan"]].head(200)
    records = [{k: None if v != v else v for k, v in row.items()} for row in rows.astype(object).to_dict("records")]
    for record in records:
        record["account"] = int(record["account"])
    yield forms.invocations(orjson.dumps({"dataframe_records": records}), reader, 1000, b"application/json").rows
    yield forms.invocations(rows.to_csv(index=False).encode(), reader, 1000, b"text/csv").rows
    kinds = {"spend": "FP64", "calls": "FP32", "account": "INT64", "plan": "BYTES"}
    inputs = [
        {"name": name, "datatype": kind, "shape": [len(rows)], "data": [record[name] for record in records]}
        for name, kind in kinds.items()
    ]
    yield forms.infer(orjson.dumps({"inputs": inputs}), reader, 1000, None, Identity("churn", "1", "blue")).rows


@pytest.mark.parametrize("estimator", OPTIONS)
def test_ids_at_1e9_are_learnt_and_served_as_in_float64(trained, estimator, monkeypatch):
    """The area under the curve is that of float64 through each stage, each form of request, `predict` and the golden requests."""
    of = trained(estimator)
    answers = of.runtime.predict_frame(of.held_out)
    assert roc_auc_score(of.held_out["left"], answers) > 0.85
    assert "account as float64" in of.said["snapshot"]
    assert "ONNX, account as float64" in of.said["package"]
    single = fit.fit(contract.kept_rows(of.files.snapshot, of.files.quarantine), of.model)
    rounded = fit.predict(single, frames.feature_frame(of.held_out, of.model.training), of.model.training)
    assert roc_auc_score(of.held_out["left"], rounded) < 0.7

    recorded = of.held_out["prediction"].to_numpy()
    assert np.abs(answers - recorded).max() < 1e-6
    for rows in asked(of.held_out, of.runtime):
        assert np.abs(of.runtime.predict(rows) - recorded[:200]).max() < 1e-6
    file = of.files.folder / "rows.parquet"
    of.held_out.to_parquet(file)
    (block,) = batch_scoring.Source(file).blocks(of.runtime, 0)
    scored = of.runtime.predict(block_columns.rows_of(block, of.runtime.reader))
    assert np.array_equal(scored, answers)
    assert onnx_parity.verdict(PackagedModel(of.model, {}, None, of.held_out, of.runtime)).passed
    assert golden_answers(of.files.package, of.files.package, monkeypatch) == of.model.evaluation.golden_rows


def test_a_file_of_float32_is_refused_by_name_in_predict(trained):
    """A file whose numbers have lost their digits already gets no answer that looks right."""
    of = trained("linear")
    file = of.files.folder / "single.parquet"
    of.held_out.astype({"account": "float32"}).to_parquet(file)
    (block,) = batch_scoring.Source(file).blocks(of.runtime, 0)
    with pytest.raises(RowRefused, match="column account must be sent as FP64, or as a whole number"):
        block_columns.rows_of(block, of.runtime.reader)


def test_skops_serves_float64_too_and_says_so(trained, tmp_path):
    """The same model from skops answers as recorded, and its line has both the columns and the reason."""
    of = trained("hist_gradient_boosting")
    model = of.model.model_copy(update={"training": of.model.training.model_copy(update={"runtime": "skops"})})
    files = copy(of.files)
    files.package = tmp_path / "package"
    said = stages.package_("churn", model, files)
    assert "MB, account as float64, served from skops: params.yaml says training.runtime: skops" in said
    assert np.array_equal(Runtime.load(files.package).predict_frame(of.held_out), of.held_out["prediction"])


def test_where_onnx_cannot_run_in_float64_skops_serves(trained, tmp_path):
    """An estimator of a project's own, a forest behind a scaler, has no ONNX in float64: `auto` serves it from skops."""
    of = trained("hist_gradient_boosting")
    training = {
        "estimator": "sklearn.ensemble:RandomForestClassifier",
        "options": {"n_estimators": 30, "min_samples_leaf": 10, "max_features": None, "random_state": 0},
    }
    model = of.model.model_copy(update={"training": of.model.training.model_copy(update=training)})
    rows = contract.kept_rows(of.files.snapshot, of.files.quarantine)
    fitted = fit.fit(rows, model, ["account"])
    skops_file.save(fitted, tmp_path / "m")
    held_out = of.held_out.assign(
        prediction=fit.predict(fitted, frames.feature_frame(of.held_out, model.training, ["account"]), model.training)
    )
    held_out.to_parquet(tmp_path / "p")
    assert roc_auc_score(held_out["left"], held_out["prediction"]) > 0.85
    manifest = package.build("churn", model, tmp_path / "m", tmp_path / "p", tmp_path / "package", of.files.snapshot)
    assert manifest["runtime"] == "skops"
    assert "ONNX" in manifest["runtime_reason"]
    assert np.array_equal(Runtime.load(tmp_path / "package").predict_frame(held_out), held_out["prediction"])


def test_a_forest_is_refused_by_name_before_it_learns(project):
    """The stage `train` ends at once, with the column and the next step."""
    files, model = changed(project, "random_forest")
    files.folder.mkdir(parents=True)
    for name in ("snapshot", "validate"):
        stages.STAGES[name]("churn", model, files)
    with pytest.raises(StageError, match="which cannot hold account; subtract an offset in the query"):
        stages.train("churn", model, files)


def test_a_log_of_both_precisions_is_read(trained, tmp_path):
    """Files of a version that took float32 lie beside such of float64: each cell is what its version got, and nobody compares more."""
    single_schema, double = trained("linear").runtime.reader.schema, trained("linear").runtime.reader
    single = Reader(
        replace(single_schema, columns=tuple(replace(c, precision="float32") for c in single_schema.columns))
    )
    for version, reader in {"1": single, "2": double}.items():
        log = PredictionLog(tmp_path, "blue", version, LogSchema(reader, version, "blue"), lambda rows: None)
        read = reader.of_records(
            [{"spend": 10.1, "calls": None, "account": FIRST + 1, "plan": "plus", "customer": "c"}]
        )
        log.add(AnsweredRequest(f"r{version}", 1.7e9, read, np.array([0.5])))
        log.close()
    start = datetime(2023, 11, 1, tzinfo=UTC)
    rows = live_quality.predictions(tmp_path, trained("linear").model, start, start + timedelta(days=30))
    assert rows.set_index("version")["account"].to_dict() == {"1": FIRST, "2": FIRST + 1}
    assert rows["spend"].tolist() == [float(np.float32(10.1))] * 2

    tables = {path.name.split("-")[1]: pq.read_table(path) for path in tmp_path.iterdir()}
    types = {v: {f.name: str(f.type) for f in t.schema.field("features").type} for v, t in tables.items()}
    assert types["v1"] == {"spend": "float", "calls": "float", "account": "float", "plan": "string"}
    assert types["v2"] == types["v1"] | {"account": "double"}
    pair = SimpleNamespace(champion=SimpleNamespace(reader=single), candidate=SimpleNamespace(reader=double))
    whys = {version: replay._whys(features_of(table), 1, pair) for version, table in tables.items()}
    assert whys == {"v1": ["have account rounded to float32, and a version takes float64"], "v2": [""]}
    runtime = SimpleNamespace(reader=double, features=double.schema.numbers + double.schema.texts)
    assert rows_of(features_of(tables["v2"]), runtime).numbers[0, 2] == FIRST + 1
