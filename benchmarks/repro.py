"""A second run through the stages with nothing changed, against the first run: stages run and seconds. Only the source is read.

The alternative is the pipeline again from the start.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.limits import within_limit
from pipeline.settings.environment import Environment


def main() -> bool:
    root = Environment.read().project
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", str(root), str(clone)], check=True)
        (clone / "warehouse").symlink_to(root / "warehouse")
        first, ran_first = _repro(clone)
        again, ran_again = _repro(clone)
    print(
        f"first run: {ran_first} stages in {first:.1f} s; again: {ran_again} stages in {again:.1f} s; ratio {first / again:.0f}"
    )
    within_limit("a no-op run, seconds", again, 3, binding=False)
    return within_limit("a no-op run, stages run (the snapshot asks its source)", ran_again, 1)


def _repro(folder: Path) -> tuple[float, int]:
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    start = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], cwd=folder, env=env, capture_output=True, text=True, check=True
    )
    return time.monotonic() - start, process.stdout.count("Running stage")
