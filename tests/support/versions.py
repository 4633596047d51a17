"""Versions of `churn` made without Airflow, as the command line and as a backfill make them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from mlflow.exceptions import MlflowException

from pipeline.context import Context
from pipeline.registry.packages import package_digest
from pipeline.registry.versions import DIGEST_TAG, PACKAGE_TAG, REFERENCE_TAG, SIGNATURE_TAG, Registry
from pipeline.runs import steps
from pipeline.runs.rebuild import rebuild
from pipeline.runs.retrain import retrain as run_all_steps
from pipeline.training import signing
from pipeline.workspaces import dvc_graph
from pipeline.workspaces.dvc_graph import Artifacts

AS_OF = datetime(2024, 3, 1, tzinfo=UTC)


def retrain(project, run="one", as_of=AS_OF):
    """Trains and registers `churn` without Airflow, and returns the version."""
    return run_all_steps(Context.here(), run, "churn", as_of, "a test", False).version


def backfill(project, run, as_of=AS_OF):
    """What the Dag does in a backfill."""
    context = Context.here()
    folder = steps.open_run(context, run, "churn", as_of, "backfill run")
    for stage in dvc_graph.order(project):
        steps.run_stage(context, folder, stage)
    return steps.archive(context, folder, steps.check_gates(context, folder, backfill=True))


def rebuilt(version="1"):
    return rebuild(Context.here(), "churn", version)


def repro():
    """`dvc repro` in the project; all that it said."""
    env = os.environ | {"PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([sys.executable, "-m", "dvc", "repro"], env=env, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def digest(version):
    return Context.here().registry.version_facts("churn", version).tags["perennial.model_digest"]


def registered(registry: Registry, artifacts: Artifacts, which: str) -> str:
    """A version in MLflow with the tags that a run gives it; its package is `which`."""
    client = registry.client()
    experiment = client.get_experiment_by_name("churn")
    root = registry.artifact_root / "churn"
    experiment_id = experiment.experiment_id if experiment else client.create_experiment("churn", str(root))
    run = client.create_run(experiment_id).info.run_id
    package = Path(shutil.copytree(artifacts.package, registry.home / "made" / run / "package"))
    manifest = json.loads((package / "manifest.json").read_text()) | {"code_revision": which}
    (package / "manifest.json").write_text(json.dumps(manifest))
    client.log_artifacts(run, str(package), "package")
    client.log_artifact(run, str(artifacts.reference))
    with contextlib.suppress(MlflowException):
        client.create_registered_model("churn")
    tags = {
        DIGEST_TAG: manifest["model_digest"],
        PACKAGE_TAG: package_digest(package),
        REFERENCE_TAG: signing.digest(artifacts.reference),
        SIGNATURE_TAG: registry.key.sign((package / "manifest.json").read_bytes()),
    }
    return str(client.create_model_version("churn", f"{root}/{run}", run, tags=tags).version)
