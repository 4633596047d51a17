"""Versions of `churn` made without Airflow, as the command line and as a backfill make them."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime

from pipeline.context import Context
from pipeline.runs import steps
from pipeline.runs.rebuild import rebuild
from pipeline.runs.retrain import retrain as run_all_steps
from pipeline.workspaces import dvc_graph

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
