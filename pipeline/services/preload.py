"""Imports the slow libraries of Airflow's tasks, then runs a Python program in this process.

Each task is a fork of the scheduler's or the Celery worker's process and shares what that has imported. Without the preload
each task spends seconds of processor time on importing MLflow or scikit-learn (`python -m benchmarks preload`). Stages, which
DVC runs as commands, are forks of a server that this process starts (pipeline/workspaces/stage_server.py). Nothing of
`pipeline` stays imported, so a task runs the project's code as it is then.

A library that cannot be imported is a warning and never an end: the task that needs it imports it itself, or fails with the
library's own error.

    python -m pipeline.services.preload airflow scheduler
"""

from __future__ import annotations

import logging
import os
import runpy
import shutil
import sys
from pathlib import Path

from pipeline.workspaces import stage_server

log = logging.getLogger("pipeline.services.preload")

# Libraries of tasks in addition to those of stages, with what Airflow and MLflow import only on first use. skops, which is
# among those of the stages, inspects every loaded module when it is imported; inside Airflow that gives a thousand warnings.
# None of these starts a thread that a fork would miss.
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
    """Runs the program `argv[0]` of the PATH with the arguments `argv[1:]`."""
    program = shutil.which(argv[0])
    if program is None:
        sys.exit(f"{argv[0]} is not installed; look at the PATH")
    # OpenMP reads the variable when it is loaded; pipeline.workspaces.workspace says why it is set.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    stage_server.import_all((*stage_server.LIBRARIES, *LIBRARIES))
    cache_mlflow_package_list()
    stage_server.fork()
    stage_server.forget_our_code()
    if "celery" in argv:
        _touch_at_heartbeats(Path(os.environ["AIRFLOW_HOME"]) / "worker-alive")
    sys.argv = [program, *argv[1:]]
    runpy.run_path(program, run_name="__main__")


def cache_mlflow_package_list() -> None:
    """Lets MLflow list the modules of all packages once. Else each task that logs a model does it: a second of processor time."""
    try:
        from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches

        warn_dependency_requirement_mismatches(["pandas"])
    except Exception as error:  # MLflow's own function, not a public one: another version may not have it
        log.warning("preload: MLflow's list of packages is not cached: %s: %s", type(error).__name__, error)


def _touch_at_heartbeats(file: Path) -> None:
    """Touches the file at each heartbeat that a Celery worker sends to its queue: every two seconds while it is connected."""
    from celery.signals import heartbeat_sent

    file.unlink(missing_ok=True)  # left by an earlier worker
    heartbeat_sent.connect(lambda **_: file.touch(), weak=False)


if __name__ == "__main__":
    main(sys.argv[1:])
