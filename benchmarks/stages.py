"""Processor seconds of a run's stages: as forks of a server with their libraries loaded, against a new process for each."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.limits import within_limit
from pipeline.settings.environment import Environment
from pipeline.settings.models import load
from pipeline.workspaces import dvc_graph, stage_server


def main() -> bool:
    root = Environment.read().project
    model = next(iter(load(root).models))
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", str(root), str(clone)], check=True)
        (clone / "warehouse").symlink_to(root / "warehouse")
        alone = _run(clone, model)
        with stage_server.running(at_once=True):
            first, again = _run(clone, model), _run(clone, model)
    print(f"{'stage':10} {'alone':>7} {'served':>7} processor seconds")
    for stage, seconds in alone.items():
        print(f"{stage:10} {seconds:7.2f} {again[stage]:7.2f}")
    total, served = sum(alone.values()), sum(again.values())
    print(f"{'a run':10} {total:7.2f} {served:7.2f}, {sum(first.values()):.2f} when the server has to start for it")
    within = within_limit("a run's stages alone, times a run's that are served", total / served, 2, at_least=True)
    return within & within_limit("the server's start included, times one alone", sum(first.values()) / total, 1)


def _run(clone: Path, model: str) -> dict[str, float]:
    """Processor seconds of each stage, including the process that calls the server and the processes that it forks."""
    spent = {}
    for stage in dvc_graph.order(clone):
        usage = clone / "usage"
        # As every stage of a run has it: threads that spin while they wait would count as work of a stage.
        env = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "PERENNIAL_PROJECT": str(clone)}
        env[stage_server.USAGE_VARIABLE] = str(usage)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "pipeline", "stage", stage, model]
        subprocess.run(command, cwd=clone, env=env, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent[stage] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        if usage.is_file():
            spent[stage] += json.loads(usage.read_text())["cpu_s"]
            usage.unlink()
    return spent
