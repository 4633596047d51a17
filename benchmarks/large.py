"""A retrain of a million rows with 30 features: seconds, and memory of all its processes together.

Processor seconds are shown beside, because those of the clock depend on what else the machine does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from benchmarks.limits import within_limit
from harness.project import CHURN, make_project

MODEL, ROWS, DAYS = "large", 1_000_000, 100
NUMBERS, CATEGORIES = [f"number {i}" for i in range(22)], [f"category {i}" for i in range(8)]
# How many values a category has; the last ones as many as a shop has articles.
VALUES = (2, 3, 5, 10, 20, 50, 200, 5000)
LIMIT_S, LIMIT_GB = 60.0, 2.5
# Looking at the memory of a process takes milliseconds itself.
EVERY_S = 0.2
SETTINGS = CHURN | {
    "description": "A million rows",
    "as_of": "2024-05-01T00:00:00Z",
    "source": {
        "query": "SELECT * FROM read_parquet('large/*.parquet') WHERE seen_at >= $start AND seen_at < $end",
        "key": "id",
        "event_time": "seen_at",
        "window_days": DAYS,
    },
    "training": CHURN["training"]
    | {"target": "left", "numeric": NUMBERS, "categorical": CATEGORIES, "options": {"max_iter": 100}},
    "evaluation": CHURN["evaluation"] | {"holdout_days": 14},
    "gates": {"metric_limit": 0.6, "baseline_margin": 0.01, "champion_tolerance": 0.05, "contract": {"min_rows": 1000}},
}


@dataclass
class Used:
    """What a command took: seconds of each stage and of the rest, by the clock and by the processor, and the most memory of all
    processes at once."""

    wall_s: float = 0.0
    stage_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    stage_cpu_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    stage_gb: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def peak_gb(self) -> float:
        return max(self.stage_gb.values())


def main() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder), {MODEL: SETTINGS})
        write_rows(project / "large")
        with (project / ".gitignore").open("a") as ignored:
            ignored.write("/large/\n")
        used = _retrained(project)
    for stage, seconds in used.stage_s.items():
        print(
            f"{stage:10} {seconds:6.1f} s, {used.stage_cpu_s[stage]:6.1f} of a processor, {used.stage_gb[stage]:.2f} GB"
        )
    cpu_s = sum(used.stage_cpu_s.values())
    print(
        f"{'all':10} {used.wall_s:6.1f} s, {cpu_s:6.1f} of a processor, {used.peak_gb:.2f} GB, on {len(os.sched_getaffinity(0))} cores"
    )
    within_limit(f"seconds of a retrain of {ROWS:,} rows", used.wall_s, LIMIT_S, binding=False)
    return within_limit("GB of memory of all its processes at once", used.peak_gb, LIMIT_GB)


def write_rows(folder: Path) -> None:
    """A file of rows for each ten days: the label follows from two numbers and a category, one value in twenty is missing."""
    folder.mkdir()
    rng = np.random.default_rng(19)
    first = pd.Timestamp("2024-05-01", tz="UTC") - pd.Timedelta(days=DAYS)
    files, rows = DAYS // 10, ROWS * 10 // DAYS
    for number in range(files):
        seen = first + pd.Timedelta(days=10 * number) + pd.to_timedelta(np.arange(rows) * 864_000 / rows, unit="s")
        frame = pd.DataFrame({"id": np.arange(rows) + number * rows, "seen_at": seen.as_unit("us")})
        for name in NUMBERS:
            values = rng.normal(0, 1, rows)
            values[rng.random(rows) < 0.05] = np.nan
            frame[name] = values
        for name, count in zip(CATEGORIES, VALUES, strict=True):
            frame[name] = np.array([f"value {i}" for i in range(count)], object)[rng.integers(0, count, rows)]
        score = frame[NUMBERS[0]].fillna(0) + frame[NUMBERS[1]].fillna(0) * 0.5 + (frame[CATEGORIES[1]] == "value 1")
        frame["left"] = (score + rng.normal(0, 1, rows) > 0.4).astype(int)
        frame.to_parquet(folder / f"{number}.parquet")


def _retrained(project: Path) -> Used:
    environment = os.environ | {"PERENNIAL_PROJECT": str(project), "PERENNIAL_HOME": str(project / "home")}
    # The figure is for all cores: a shell that is thrifty for other work would measure one.
    environment.pop("OMP_NUM_THREADS", None)
    used, start = Used(), time.monotonic()
    with (project / "output").open("w+") as output:
        command = [sys.executable, "-m", "pipeline", "retrain", MODEL]
        running = subprocess.Popen(command, cwd=project, env=environment, stdout=output, stderr=output)
        last, cpu_s = start, {}
        while running.poll() is None:
            stage, gb = _measured(psutil.Process(running.pid), cpu_s)
            now = time.monotonic()
            used.stage_s[stage] += now - last
            used.stage_cpu_s[stage] += sum(cpu_s.values()) - sum(used.stage_cpu_s.values())
            used.stage_gb[stage] = max(used.stage_gb[stage], gb)
            last = now
            time.sleep(EVERY_S)
        used.wall_s = time.monotonic() - start
        output.seek(0)
        text = output.read()
    if running.returncode:
        raise SystemExit(f"retrain failed: {text[-3000:]}")
    return used


def _measured(whole: psutil.Process, cpu_s: dict[int, float]) -> tuple[str, float]:
    """(the stage that runs now, the memory of the process with all its children in GB; what they share counts once).

    Notes each one's processor seconds so far.
    """
    stage, memory_kb = "others", 0
    for process in (whole, *whole.children(recursive=True)):
        try:
            words, times = process.cmdline(), process.cpu_times()
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
        except (psutil.Error, OSError):
            continue
        cpu_s[process.pid] = times.user + times.system
        memory_kb += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        if "stage" in words[:-1]:
            stage = words[words.index("stage") + 1]
    return stage, memory_kb * 1024 / 1e9
