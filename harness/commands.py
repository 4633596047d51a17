"""Commands in processes of their own that start at once: a server that has imported everything forks them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.workspaces import stage_server

# Imported by a server of stages too, so that it can be asked for any command (harness/served.py).
LIBRARIES = (
    "mlflow",
    # What MLflow, httpx and Docker's client import only when they are used, seconds of processor time each time.
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "httpcore",
    "prometheus_client.parser",
    "pyarrow.parquet",
    "docker",
    # What a retrain logs its model with, four seconds more.
    "mlflow.sklearn",
    "mlflow.data.pandas_dataset",
    "mlflow.pyfunc.loaders",
    "harness.frozen",
)
PRELOADED = [
    "pipeline.cli.main",
    "pipeline.runs.retrain",
    "pipeline.deployer.status",
    "pipeline.deployer.api",
    "pipeline.rollout.deploy",
    "pipeline.rollout.rollback",
    "pipeline.rollout.engines.docker",
    "pipeline.rollout.engines.process",
    *stage_server.LIBRARIES,
    *LIBRARIES,
]
# When one that hangs is given up; a busy machine may need minutes.
LIMIT_S = 600
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(PRELOADED)


def run(folder: Path, command: list[str], **environment: str) -> int:
    """The exit code of `python -m pipeline COMMAND` in `folder`; that of a signal is negative."""
    return _run(folder, command, environment, "", "")


def killed(folder: Path, command: list[str], after_s: float, **environment: str) -> bool:
    """Kills `python -m pipeline COMMAND` so many seconds after its start; False when it had ended before."""
    process = _server.Process(target=_main, args=(str(folder), command, {**os.environ, **environment}, "", ""))
    process.start()
    process.join(after_s)
    process.kill()
    process.join(60)
    return process.exitcode == -signal.SIGKILL


def said(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m pipeline COMMAND` in the working folder, and what it printed."""
    with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
        code = _run(Path.cwd(), command, environment, out.name, err.name)
        return subprocess.CompletedProcess(command, code, out.read(), err.read())


def _run(folder: Path, command: list[str], environment: dict[str, str], out: str, err: str) -> int:
    process = _server.Process(target=_main, args=(str(folder), command, {**os.environ, **environment}, out, err))
    process.start()
    process.join(LIMIT_S)
    assert process.exitcode is not None, command
    return process.exitcode


def _main(folder: str, command: list[str], environment: dict[str, str], out: str, err: str) -> None:
    from pipeline.cli.main import main

    for path, stream in ((out, sys.stdout), (err, sys.stderr)):
        if path:
            os.dup2(os.open(path, os.O_WRONLY), stream.fileno())
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    try:
        code = main(command)
    except SystemExit as wrong_usage:
        code = int(wrong_usage.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
