"""Runs a Python program in this process, with the slow libraries of Airflow's tasks imported before it.

Each task is a fork of the scheduler's workers and has what they have: without this, it spends seconds of processor time
importing MLflow or scikit-learn again. Stages, which DVC runs as commands, are forked by a server that this process starts
(pipeline/workspaces/stage_server.py). Nothing of `pipeline` stays imported, so that a task runs the project's code as it is then. skops
has another reason to come first: it looks at every module there is, and Airflow's answer with warnings by the thousand.

    python -m pipeline.services.preload airflow scheduler
"""

from __future__ import annotations

import importlib
import os
import runpy
import shutil
import sys
from pathlib import Path

from pipeline.workspaces import stage_server

# Besides those of the stages; what Airflow and MLflow import only when they are used, too. None of these starts a thread of
# its own that a fork would miss.
LIBRARIES = (
    "mlflow.sklearn",
    "mlflow.data.pandas_dataset",
    "mlflow.pyfunc.loaders",
    "mlflow.tracing.processor.base_mlflow",
    "git",
    "s3fs",
    "boto3",
    "docker",
    "httpcore",
    "jinja2.ext",
    "airflow.sdk.definitions.decorators",
    "airflow.providers.standard.decorators.python",
)


def main(argv: list[str]) -> None:
    program = shutil.which(argv[0])
    if program is None:
        sys.exit(f"{argv[0]} is not installed; look at the PATH")
    # OpenMP reads it when it is loaded; pipeline.workspaces.workspace says why.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for library in (*stage_server.LIBRARIES, *LIBRARIES):
        importlib.import_module(library)
    _let_mlflow_look_around()
    stage_server.fork()
    stage_server.forget_our_code()
    if "celery" in argv:
        _show_that_it_is_alive(Path(os.environ["AIRFLOW_HOME"]) / "worker-alive")
    sys.argv = [program, *argv[1:]]
    runpy.run_path(program, run_name="__main__")


def _let_mlflow_look_around() -> None:
    """It lists the modules of every package there is, once a process, when a model is logged: a second of processor time."""
    from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches

    warn_dependency_requirement_mismatches(["pandas"])


def _show_that_it_is_alive(file: Path) -> None:
    """A Celery worker touches the file at each heartbeat that it sends to its queue: every two seconds while it has one."""
    from celery.signals import heartbeat_sent

    file.unlink(missing_ok=True)  # of a process before this one
    heartbeat_sent.connect(lambda **_: file.touch(), weak=False)


if __name__ == "__main__":
    main(sys.argv[1:])
