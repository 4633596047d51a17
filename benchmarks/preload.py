"""The gain of services/preload.py: a task forked from a process that has the libraries, against one that imports them itself.

Processor seconds of the libraries that the tasks `register` and `train` of a run import, and of the preload itself, which a
scheduler or worker pays once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.limits import within_limit

# A scheduler in small: it imports Airflow's task SDK, forks a process as for a task, and prints the processor seconds of both.
PROGRAM = """
import json, os, resource
import airflow.sdk
def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
reader, writer = os.pipe()
start = used()
if os.fork() == 0:
    import mlflow.sklearn, mlflow.pyfunc.loaders, mlflow.data.pandas_dataset, skops.io, dvc.repo, git
    from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches
    warn_dependency_requirement_mismatches(["pandas"])
    os.write(writer, json.dumps(used()).encode())
    os._exit(0)
os.wait()
resident = next(int(line.split()[1]) for line in open("/proc/self/smaps_rollup") if line.startswith("Pss:"))
print(json.dumps([json.loads(os.read(reader, 100)), start, resident / 1024]))
"""


@dataclass(frozen=True)
class Used:
    """Processor seconds of the task and of its parent until the fork, and the parent's memory in MiB."""

    task_s: float
    parent_s: float
    parent_mb: float


def main() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program"
        program.write_text(PROGRAM)
        program.chmod(0o755)
        alone = _run(folder, [sys.executable, str(program)])
        preloaded = _run(folder, [sys.executable, "-m", "pipeline.services.preload", "program"])
    for name, used in {"without": alone, "with preload": preloaded}.items():
        print(f"{name:13} task {used.task_s:5.2f} s, parent {used.parent_s:5.2f} s and {used.parent_mb:4.0f} MiB")
    once = preloaded.parent_s - alone.parent_s
    print(
        f"the preload costs {once:.1f} s once and pays off after {once / (alone.task_s - preloaded.task_s):.1f} tasks"
    )
    return within_limit(
        "a task's imports without preload, times with it", alone.task_s / preloaded.task_s, 5, at_least=True
    )


def _run(folder: str, command: list[str]) -> Used:
    env = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return Used(*json.loads(result.stdout.splitlines()[-1]))
