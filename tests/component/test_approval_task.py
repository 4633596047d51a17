"""The task at which a run waits for a person, tried again."""

import os
import subprocess
import sys
from pathlib import Path

from harness.project import ROOT

SCRIPT = Path(__file__).parents[1] / "support" / "tries_of_approval.py"


def test_a_lost_try_of_a_rejected_version_does_not_ask_again_and_a_cleared_task_does(project, tmp_path):
    """By Airflow's own operator; what asks is a stand-in, whose real self a story asks."""
    env = os.environ | {"AIRFLOW_HOME": str(tmp_path / "airflow"), "PERENNIAL_PROJECT": str(project)}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(ROOT / "dags")],
        capture_output=True,
        text=True,
        env=env,
        cwd=ROOT,
        check=False,
    )
    told = [line.removeprefix("@@ ") for line in done.stdout.splitlines() if line.startswith("@@")]
    lost = "skipped: version 2 rejected by bob"
    assert told == ["first asked 1", f"lost {lost}", "cleared asked 2", f"lost after it was cleared {lost}"], (
        done.stderr
    )
