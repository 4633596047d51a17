"""An endpoint for each engine, on versions that are trained once."""

from __future__ import annotations

import shutil
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
from pipeline.runs.retrain import retrain
from tests.support.endpoint import Endpoint
from tests.support.once import made_once
from tests.support.postgres import postgres, shared  # noqa: F401
from tests.support.required import skip_or_fail


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A project with four versions. One worker runs their stages, the others restore them from its DVC cache."""
    with pytest.MonkeyPatch.context() as patch:
        project = make_project(tmp_path_factory.mktemp("rollout") / "project", {"churn": CHURN})
        cache = project / ".dvc" / "cache"
        patch.chdir(project)
        patch.setenv("PERENNIAL_HOME", str(project / "home"))
        patch.setenv("PERENNIAL_PROJECT", str(project))

        def train(folder: Path) -> None:
            _register_versions(project)
            shutil.copytree(cache, folder, dirs_exist_ok=True)

        shared = made_once(tmp_path_factory, "versions", train)
        if not cache.is_dir():
            shutil.copytree(shared, cache)
            _register_versions(project)
        yield project


def _register_versions(project: Path) -> None:
    """Versions 1 to 3 as of three days, and 4, which is trained on labels turned round."""
    context = Context.here()
    for day in (20, 21, 22):
        as_of = context.params.model("churn").as_of.replace(month=2, day=day)
        retrain(context, f"run/{day}", "churn", as_of, "a test", False)
    customers = project / "customers" / "all.parquet"
    content = customers.read_bytes()
    rows = pd.read_parquet(customers)
    rows.assign(left=1 - rows["left"]).to_parquet(customers)
    retrain(context, "run/flipped", "churn", as_of, "a test", False)
    customers.write_bytes(content)


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
