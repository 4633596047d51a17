"""A small model that is live behind a real Traefik, as users have it: slots on an engine, a warm predecessor, the slots' keeper."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.project import CHURN, change_params, make_project
from harness.router import router
from pipeline.context import Context
from pipeline.rollout import deploy
from pipeline.rollout.engines.base import EngineSettings, EngineUnavailable
from pipeline.rollout.engines.docker import DockerEngine
from pipeline.runs.retrain import retrain

DOCKER, PROCESS = "docker", "process"


def trained(project: Path, versions: int) -> Path:
    """A project with so many registered versions of a small model."""
    make_project(project, {"churn": CHURN})
    _enter(project)
    context = Context.here()
    as_of = context.params.model("churn").as_of
    for day in range(20, 20 + versions):
        retrain(context, f"bench/{day}", "churn", as_of.replace(month=2, day=day), "bench", False)
    return project


def engines(project: Path) -> list[str]:
    """The engines that run here, the default first."""
    try:
        DockerEngine(EngineSettings(project / "home", project))
    except EngineUnavailable as reason:
        print(f"process engine only, because {reason}")
        return [PROCESS]
    return [DOCKER, PROCESS]


@contextmanager
def behind_traefik(project: Path, engine: str) -> Iterator[tuple[Context, str]]:
    """Yields the context, and the model's address; the caller deploys. Ends all slots afterwards."""
    change_params(project, "models.churn.rollout.engine", engine)
    _enter(project)
    with router(project, project / "home") as at:
        os.environ |= {"PERENNIAL_ROUTER_URL": at.router, "PERENNIAL_ROUTER_API_URL": at.router_api}
        # Read again: a context holds the environment as it was when it was made.
        context = Context.here()
        try:
            yield context, f"{at.router}/churn"
        finally:
            deploy.stop_all(context.rollout("bench").engines, 1)


@contextmanager
def kept() -> Iterator[None]:
    """Runs the process that `make up` runs beside the slots: it starts dead ones again, and notes each death in the ledger."""
    keeper = subprocess.Popen([sys.executable, "-m", "pipeline.services.slot_keeper"])
    try:
        yield
    finally:
        keeper.terminate()
        keeper.wait(10)


def _enter(project: Path) -> None:
    os.environ |= {"PERENNIAL_PROJECT": str(project), "PERENNIAL_HOME": str(project / "home")}
    os.chdir(project)
