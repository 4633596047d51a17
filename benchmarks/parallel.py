"""Eight runs at once, against the time that the processors alone would need for them.

The ideal is eight times the processor seconds of one run, divided by the cores. With a lock they would run one after the other.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.limits import within_limit
from pipeline.settings.environment import Environment

RUNS = 8


def main() -> bool:
    root = Environment.read().project
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", str(root), str(clone)], check=True)
        (clone / "warehouse").symlink_to(root / "warehouse")
        _retrains(clone, ["2013-06-30"])  # creates MLflow's tables and lands the days that all runs share
        alone_s, alone_cpu = _retrains(clone, ["2013-07-01"])
        wall_s, cpu_s = _retrains(clone, [f"2013-07-{day:02d}" for day in range(2, 2 + RUNS)])
    ideal = RUNS * alone_cpu / cores
    print(f"one run: {alone_s:.1f} s, {alone_cpu:.1f} processor seconds; {cores} cores")
    print(
        f"{RUNS} at once: {wall_s:.1f} s, {cpu_s:.1f} processor seconds; the ideal is {ideal:.1f} s, ratio {wall_s / ideal:.2f}"
    )
    print(f"one after the other: {RUNS * alone_s:.1f} s, {RUNS * alone_s / wall_s:.2f} times as long")
    return within_limit(f"{RUNS} runs at once, times the ideal", wall_s / ideal, 1.3)


def _retrains(clone: Path, days: list[str]) -> tuple[float, float]:
    """(seconds, processor seconds) of retraining as of all `days` at once."""
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "pipeline", "retrain", "flight-delay", "--as-of"]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    started = [
        subprocess.Popen(
            [*command, day], cwd=clone, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for day in days
    ]
    for running in started:
        _, errors = running.communicate()
        if running.returncode:
            raise SystemExit(f"a run failed: {errors.strip().splitlines()[-1]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - start, cpu_s
