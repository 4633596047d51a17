"""An endpoint for each engine, on versions that are trained once."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pytest

from harness.project import CHURN, change_params, make_project
from harness.router import router
from pipeline.context import Context
from pipeline.rollout import deploy
from pipeline.rollout.engines.base import EngineSettings, EngineUnavailable
from pipeline.rollout.engines.docker import DockerEngine
from pipeline.rollout.routing import route_file
from pipeline.rollout.slots import predictions_folder
from pipeline.runs.stages import STAGES
from pipeline.settings.models import Model
from pipeline.workspaces.dvc_graph import Artifacts
from tests.support.endpoint import BOOSTED, FLIPPED, SKOPS, Endpoint
from tests.support.once import made_once
from tests.support.postgres import postgres, shared  # noqa: F401
from tests.support.required import skip_or_fail
from tests.support.versions import registered

# Versions 1 to 3 are as of three days; 4 is trained on labels turned round, 5 is as 3 and served from skops, 6 is XGBoost's.
DAYS = {"1": 20, "2": 21, "3": 22, FLIPPED: 22, SKOPS: 22, BOOSTED: 22}
TRAINING = {SKOPS: {"runtime": "skops"}, BOOSTED: {"estimator": "xgboost", "options": {"n_estimators": 20}}}


@pytest.fixture(scope="session")
def trained(tmp_path_factory, _empty_store):
    """A project with six versions. Their files are made once for all workers, and registered in a project for each."""
    with pytest.MonkeyPatch.context() as patch:
        project = make_project(tmp_path_factory.mktemp("rollout") / "project", {"churn": CHURN})
        patch.chdir(project)
        patch.setenv("PERENNIAL_HOME", str(project / "home"))
        patch.setenv("PERENNIAL_PROJECT", str(project))
        made = made_once(tmp_path_factory, "versions", _train)
        shutil.copytree(_empty_store, project / "home" / "mlflow")
        registry = Context.here().registry
        registry.client()
        for version in DAYS:
            assert registered(registry, Artifacts(made / version, "churn"), f"code of {version}") == version
        yield project


def _train(folder: Path) -> None:
    """Every stage for each version, in this process; the current folder is the project."""
    customers = Path("customers") / "all.parquet"
    content, rows = customers.read_bytes(), pd.read_parquet(customers)
    for version, day in DAYS.items():
        model = Model.model_validate(CHURN)
        training = model.training.model_copy(update=TRAINING.get(version, {}))
        model = model.model_copy(update={"as_of": model.as_of.replace(month=2, day=day), "training": training})
        if version == FLIPPED:
            rows.assign(left=1 - rows["left"]).to_parquet(customers)
        files = Artifacts(Path.cwd(), "churn")
        files.folder.mkdir(parents=True)
        for stage in STAGES.values():
            stage("churn", model, files)
        shutil.copytree(files.folder, Artifacts(folder / version, "churn").folder)
        shutil.rmtree(files.folder)
        customers.write_bytes(content)


@pytest.fixture
def entered(monkeypatch, _empty_store):
    """Enters a project, starts a router before it, and gives its context; the slots end with the test."""
    with ExitStack() as ending:

        def enter(project: Path) -> Context:
            monkeypatch.chdir(project)
            monkeypatch.setenv("PERENNIAL_PROJECT", str(project))
            shutil.copytree(_empty_store, project / ".perennial" / "mlflow")
            at = ending.enter_context(router(project, project / ".perennial"))
            monkeypatch.setenv("PERENNIAL_ROUTER_URL", at.router)
            monkeypatch.setenv("PERENNIAL_ROUTER_API_URL", at.router_api)
            ending.callback(lambda: deploy.stop_all(Context.here().rollout("test").engines))
            return Context.here()

        yield enter


@pytest.fixture(params=["process", "docker"])
def endpoint(request, trained, monkeypatch, tmp_path):
    """Nothing live yet, for each engine that answers."""
    monkeypatch.chdir(trained)
    monkeypatch.setenv("PERENNIAL_HOME", str(trained / "home"))
    monkeypatch.setenv("PERENNIAL_PROJECT", str(trained))
    settings = (trained / "params.yaml").read_text()
    if request.param == "docker":
        try:
            DockerEngine(EngineSettings(trained / "home", trained))
        except EngineUnavailable as reason:
            skip_or_fail("docker", str(reason))
    change_params(trained, "models.churn.rollout.engine", request.param)
    with router(trained, trained / "home") as at:
        monkeypatch.setenv("PERENNIAL_ROUTER_URL", at.router)
        monkeypatch.setenv("PERENNIAL_ROUTER_API_URL", at.router_api)
        monkeypatch.setenv("PERENNIAL_LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
        made = Endpoint(trained, at)
        # Another test's slots on the same project may have left theirs.
        shutil.rmtree(predictions_folder(made.home, "churn"), ignore_errors=True)
        yield made
        deploy.stop_all(made.engines)
        shutil.rmtree(predictions_folder(made.home, "churn"), ignore_errors=True)
        (trained / "params.yaml").write_text(settings)
        for path in route_file.routes_folder(made.home).glob("*.yaml"):
            path.unlink()
