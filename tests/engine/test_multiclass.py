"""A model of three classes, real wines with the names of their grapes, goes from its source through each door and check to a rebuild."""

from __future__ import annotations

import copy
import json
import time
from datetime import UTC, datetime

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest

from harness.load import steady_load
from harness.project import CHURN, change_params, make_project
from pipeline.context import Context
from pipeline.errors import RolloutError
from pipeline.ledger.rollout_events import Replayed
from pipeline.ledger.timeline import live_at
from pipeline.monitoring import live_quality
from pipeline.rollout import deploy
from pipeline.rollout.slots import predictions_folder
from pipeline.runs import batch_scoring
from pipeline.runs.drift_check import check_drift
from pipeline.runs.post_rollout_watch import watch
from pipeline.runs.rebuild import rebuild
from pipeline.runs.retrain import retrain
from pipeline.training import frames
from pipeline.training.tasks import Answers
from pipeline.workspaces.dvc_graph import Artifacts

NAME, AS_OF, LIMIT_S = "wines", datetime(2024, 3, 1, tzinfo=UTC), 60
GRAPES = ("barolo", "grignolino", "barbera")
CLASSES = tuple(sorted(GRAPES))
FEATURES = ("alcohol", "hue", "flavanoids", "proline")
BLOCK = copy.deepcopy(CHURN) | {
    "training": {
        "task": "multiclass",
        "target": "grape",
        "numeric": list(FEATURES),
        "categorical": ["colour"],
        # A slot has no XGBoost: what it answers, and a rebuild, come from the package alone.
        "estimator": "xgboost",
        "options": {"n_estimators": 30},
    },
    # The held-out rows stand for requests: what is served may not have learnt them.
    "evaluation": {"holdout_days": 7, "metric": "log_loss", "golden_rows": 10, "refit": False},
    "gates": {"metric_limit": 0.8, "baseline_margin": 0.1, "champion_tolerance": 0.2, "contract": {"min_rows": 100}},
    "monitor": {"cron": "0 6 * * *", "window_days": 7, "min_rows": 50, "quality_drop": 0.2, "features_limit": 2},
    "rollout": {
        "engine": "process",
        "bake_s": 0.2,
        "limits": {
            **{"p99_ms": None, "min_requests": 20, "alpha": 0.4, "error_rate": 0.5, "refusal_rate": 0.5},
            **{"churn": 0.5, "drift": 0.5, "prediction_rate": 0.5},
        },
    },
}
BLOCK["source"]["query"] = "SELECT * FROM 'wines/*.parquet' WHERE tasted_at >= $start AND tasted_at < $end"
BLOCK["source"] |= {"key": "bottle", "event_time": "tasted_at"}


def wines() -> pd.DataFrame:
    """The wines of scikit-learn four times, a little changed each time, over 29 days; a grape is named two days later."""
    from sklearn.datasets import load_wine

    loaded = load_wine(as_frame=True)
    rng = np.random.default_rng(3)
    rows = pd.concat([loaded.frame] * 4, ignore_index=True).sample(frac=1, random_state=3, ignore_index=True)
    tasted = pd.Timestamp("2024-02-01", tz="UTC") + pd.to_timedelta(np.arange(len(rows)) * 29 / len(rows), unit="D")
    taken = {name: rows[name] * rng.normal(1, 0.02, len(rows)) for name in FEATURES}
    return pd.DataFrame(
        {
            "bottle": [f"b{i}" for i in range(len(rows))],
            "tasted_at": tasted.as_unit("us"),
            **taken,
            "colour": np.where(rows["color_intensity"] > 5, "deep", "pale"),
            "grape": [GRAPES[place] for place in rows["target"]],
            "decided_at": (tasted + pd.Timedelta(days=2)).as_unit("us"),
        }
    )


@pytest.fixture
def context(tmp_path, entered):
    """A project with the model and a router before it; nothing is trained yet."""
    project = make_project(tmp_path / "project", {NAME: BLOCK})
    (project / "wines").mkdir()
    wines().to_parquet(project / "wines" / "all.parquet")
    with (project / ".gitignore").open("a") as ignored:
        ignored.write("/wines/\n")
    return entered(project)


def requests(rows: pd.DataFrame) -> list[dict]:
    sent = rows[["bottle", "tasted_at", *FEATURES, "colour"]].astype(object)
    sent["tasted_at"] = [time.isoformat() for time in sent["tasted_at"]]
    return sent.to_dict("records")


def ask(address: str, rows: pd.DataFrame) -> list[dict[str, float]]:
    """A request for each row."""
    answered = []
    with httpx.Client() as client:
        for record in requests(rows):
            answer = client.post(f"{address}/invocations", json={"dataframe_records": [record]})
            assert answer.status_code == 200, answer.text
            answered += answer.json()["predictions"]
    return answered


def wait_for_log(context: Context, rows: int) -> None:
    until = time.monotonic() + LIMIT_S
    while live_quality.logged(predictions_folder(context.home, NAME)) < rows:
        assert time.monotonic() < until
        time.sleep(0.1)


def held_out_of(context: Context, run: str) -> pd.DataFrame:
    return pd.read_parquet(Artifacts(context.home / "workspaces" / run, NAME).served_predictions)


def by_v2(address: str, rows: pd.DataFrame) -> dict[str, list]:
    columns = {name: ("FP64", rows[name].tolist()) for name in FEATURES} | {
        "colour": ("BYTES", rows["colour"].tolist())
    }
    inputs = [{"name": n, "datatype": k, "shape": [len(v)], "data": v} for n, (k, v) in columns.items()]
    answer = httpx.post(f"{address}/v2/models/{NAME}/infer", json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
    return {output["name"]: output["data"] for output in answer.json()["outputs"]}


def scored(context: Context, rows: pd.DataFrame, folder) -> pd.DataFrame:
    rows.drop(columns=["grape", "decided_at"]).to_parquet(folder / "rows.parquet")
    live = live_at(context.ledger, NAME)
    batch_scoring.score(context.registry, NAME, folder / "rows.parquet", folder / "out.parquet", live)
    return pd.read_parquet(folder / "out.parquet")


def test_three_classes_go_from_their_source_to_a_rebuild(context, tmp_path):
    """Both protocols, file, log, MLflow, drift check, live quality, replay, canary, watch and rebuild agree on the three probabilities."""
    assert retrain(context, "one", NAME, AS_OF, "a test", deploy=True).version == "1"
    held_out = held_out_of(context, "one")
    expected = Answers.of(held_out, CLASSES).values
    address = f"{context.environment.router_addresses.url}/{NAME}"
    answers = ask(address, held_out)
    assert [list(answer) for answer in answers] == [list(CLASSES)] * len(held_out)
    assert np.allclose([list(answer.values()) for answer in answers], expected, atol=1e-6)
    likeliest = [CLASSES[place] for place in expected.argmax(axis=1)]
    v2 = by_v2(address, held_out)
    assert v2["probabilities"] == [p for answer in answers for p in answer.values()]
    assert v2["class"] == likeliest
    assert np.mean(np.array(likeliest) == held_out["grape"]) > 0.8

    file = scored(context, held_out, tmp_path)
    assert file["prediction"].tolist() == likeliest
    assert file[[f"probability_{name}" for name in CLASSES]].to_numpy().tolist() == [list(a.values()) for a in answers]
    features = frames.feature_frame(held_out, context.params.model(NAME).training)
    in_mlflow = mlflow.pyfunc.load_model(f"models:/{NAME}/1")
    assert in_mlflow.metadata.get_output_schema().input_names() == list(CLASSES)
    assert np.array_equal(in_mlflow.predict(features)[list(CLASSES)].to_numpy(), expected)

    asked = 2 * len(held_out)
    wait_for_log(context, asked)
    quiet = check_drift(context, "same", NAME, AS_OF)
    assert quiet.drift.verdict == "no drift", quiet.drift.reason
    assert quiet.live_quality.labelled == len(held_out)
    assert quiet.live_quality.value == pytest.approx(quiet.live_quality.held_out, rel=1e-4)

    project = context.project
    change_params(project, f"models.{NAME}.training.seed", 5)
    change_params(project, f"models.{NAME}.training.options.n_estimators", 40)
    rows = pd.read_parquet(project / "wines" / "all.parquet")
    turned = dict(zip(GRAPES, [*GRAPES[1:], GRAPES[0]], strict=True))
    rows.assign(grape=rows["grape"].map(turned)).to_parquet(project / "wines" / "all.parquet")
    change_params(project, f"models.{NAME}.gates.champion_tolerance", 100)
    assert retrain(Context.here(), "turned", NAME, AS_OF, "a test", deploy=False).version == "2"
    rows.to_parquet(project / "wines" / "all.parquet")
    assert retrain(Context.here(), "two", NAME, AS_OF, "a test", deploy=False).version == "3"

    def rolled_out(version: str, strategy: str):
        here = Context.here()
        return deploy.deploy(here.rollout("test"), NAME, version, here.params.model(NAME).rollout, strategy=strategy)

    with pytest.raises(RolloutError, match="changed sides: over the limit"):
        rolled_out("2", "replay")
    assert live_at(context.ledger, NAME).version == "1"
    rolled_out("3", "replay")
    (replayed,) = context.ledger.events(Replayed)
    assert {look["figure"]: look["of"] for look in replayed.event.looks}["churn"] == replayed.event.rows > 0
    bodies = [json.dumps({"dataframe_records": [record]}).encode() for record in requests(held_out)]
    with steady_load(address, bodies, 100) as tally:
        with pytest.raises(RolloutError, match="over the limit"):
            rolled_out("2", "canary")
        rolled_out("1", "canary")
    assert (tally.failed, live_at(context.ledger, NAME).version) == (0, "1")
    change_params(project, f"models.{NAME}.rollout.strategy", "all-at-once")
    rolled_out("2", "all-at-once")
    ask(address, held_out)
    wait_for_log(context, asked + tally.sent + len(held_out))
    watched = watch(Context.here(), "w", NAME, AS_OF)
    assert (watched.decision, watched.comparison.champion, watched.rollback.version) == ("roll back", "2", "1")
    rebuilt = rebuild(context, NAME, "1")
    assert rebuilt.identical, rebuilt.compared
