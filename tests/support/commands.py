"""Commands in processes of their own that start at once: a server that has imported everything forks them."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

PRELOADED = [
    "pipeline.__main__",
    "pipeline.runs",
    "pipeline.rollout.execute",
    "pipeline.rollout.back",
    "mlflow",
    "docker",
    "tests.support.frozen",
]
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(PRELOADED)


def run(folder: Path, command: list[str], **environment: str) -> int:
    """The exit code of `python -m pipeline COMMAND` in `folder`; that of a signal is negative."""
    process = _server.Process(target=_main, args=(str(folder), command, {**os.environ, **environment}))
    process.start()
    process.join(120)
    assert process.exitcode is not None, command
    return process.exitcode


def _main(folder: str, command: list[str], environment: dict[str, str]) -> None:
    from pipeline.__main__ import main

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    os._exit(main(command))
