"""Real slots behind a real Traefik, on a small model, for each engine."""

from __future__ import annotations

import hashlib
import json
import shutil

import httpx
import pandas as pd
import pytest

from pipeline.rollout import deploy, recovery, rollback
from pipeline.rollout.engines.base import EngineSettings, EngineUnavailable
from pipeline.rollout.engines.docker import DockerEngine
from pipeline.rollout.engines.select import Engines
from pipeline.rollout.routing import route_file
from pipeline.rollout.slots import predictions_folder
from pipeline.runs import steps
from tests import conftest
from tests.support.router import router

GOOD = {"spend": 10.0, "calls": 4, "plan": "plus"}
BODY = json.dumps({"dataframe_records": [GOOD]}).encode()
FLIPPED = "4"
# For what is decided before or beside a slot, whichever engine runs it: on one of them.
one_engine = pytest.mark.parametrize("site", ["process"], indirect=True)


def bodies(count: int = 400) -> list[bytes]:
    """Requests that differ as customers do."""
    rows = conftest.customers().head(count)[["spend", "calls", "plan"]]
    rows = rows.astype(object).where(rows.notna(), None)
    return [json.dumps({"dataframe_records": [row]}).encode() for row in rows.to_dict("records")]


class Site:
    """A project with registered versions of churn behind a real router: 1 to 3 alike, 4 trained on labels turned round."""

    def __init__(self, project, at):
        self.project, self.home, self.at = project, project / "home", at
        self.context = steps.Context.here()
        self.address = f"{at.router}/churn"

    def deploy(self, version, strategy=None):
        return deploy.deploy(steps.Context.here().rollout("test"), "churn", version, self.settings(), strategy=strategy)

    def set(self, **settings):
        for key, value in settings.items():
            conftest.change_params(self.project, f"models.churn.rollout.{key.replace('__', '.')}", value)

    def rollback(self):
        return rollback.rollback(steps.Context.here().rollout("test"), "churn", self.settings())

    def reconcile(self):
        return recovery.reconcile(steps.Context.here().rollout("test"), {"churn": self.settings()})

    def settings(self):
        return steps.Context.here().params.model("churn").rollout

    def live(self):
        answer = httpx.post(f"{self.address}/invocations", content=BODY)
        assert answer.status_code == 200
        return answer.headers["x-model-version"], answer.headers["x-slot"]

    def containers(self):
        """This home's own: other tests' are on the same engine."""
        import docker

        home = f"perennial.home={hashlib.sha256(str(self.home).encode()).hexdigest()[:8]}"
        return docker.from_env().containers.list(filters={"label": [home]})

    def slots(self):
        return sorted((r.slot, r.version) for e in self.engines.all() for r in e.all())

    @property
    def engines(self) -> Engines:
        return self.context.rollout("test").engines


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A project and its versions, made once."""
    with pytest.MonkeyPatch.context() as patch:
        project = conftest.make_project(tmp_path_factory.mktemp("rollout") / "project", {"churn": conftest.CHURN})
        patch.chdir(project)
        patch.setenv("PERENNIAL_HOME", str(project / "home"))
        patch.setenv("PERENNIAL_PROJECT", str(project))
        context = steps.Context.here()
        for day in (20, 21, 22):
            as_of = context.params.model("churn").as_of.replace(month=2, day=day)
            steps.retrain(context, f"run/{day}", "churn", as_of, "a test", False, lambda _step: None)
        customers = project / "customers" / "all.parquet"
        kept = customers.read_bytes()
        rows = pd.read_parquet(customers)
        rows.assign(left=1 - rows["left"]).to_parquet(customers)
        steps.retrain(context, "run/flipped", "churn", as_of, "a test", False, lambda _step: None)
        customers.write_bytes(kept)
        yield project


@pytest.fixture(params=["process", "docker"])
def site(request, trained, monkeypatch, tmp_path):
    """Nothing live yet, for each engine that answers."""
    monkeypatch.chdir(trained)
    monkeypatch.setenv("PERENNIAL_HOME", str(trained / "home"))
    monkeypatch.setenv("PERENNIAL_PROJECT", str(trained))
    settings = (trained / "params.yaml").read_text()
    if request.param == "docker":
        try:
            DockerEngine(EngineSettings(trained / "home", trained))
        except EngineUnavailable as reason:
            conftest.skip_or_fail("docker", str(reason))
    conftest.change_params(trained, "models.churn.rollout.engine", request.param)
    with router(trained, trained / "home") as at:
        monkeypatch.setenv("PERENNIAL_ROUTER_URL", at.router)
        monkeypatch.setenv("PERENNIAL_ROUTER_API_URL", at.router_api)
        monkeypatch.setenv("PERENNIAL_LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
        made = Site(trained, at)
        # Another test's slots on the same project may have left theirs.
        shutil.rmtree(predictions_folder(made.home, "churn"), ignore_errors=True)
        yield made
        deploy.stop_all(made.engines)
        shutil.rmtree(predictions_folder(made.home, "churn"), ignore_errors=True)
        (trained / "params.yaml").write_text(settings)
        for path in route_file.routes_folder(made.home).glob("*.yaml"):
            path.unlink()
