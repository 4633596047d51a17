"""A model's block with nothing but what must be there goes through `dvc repro`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from harness.project import CHURN, change_params, make_project

SMALLEST = {
    "as_of": CHURN["as_of"],
    "schedule": {"cron": "0 0 * * *", "start": "2024-01-01T00:00:00Z"},
    "source": {key: CHURN["source"][key] for key in ("query", "event_time", "window_days")},
    "training": {"target": "left", "numeric": ["spend", "calls"]},
    "evaluation": {"holdout_days": 7, "metric": "roc_auc"},
    "gates": {"metric_limit": 0.6},
    "monitor": {"cron": "0 6 * * *", "window_days": 20},
}


def reproduced(project: Path) -> str:
    """What `dvc repro` says."""
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "dvc", "repro"]
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_optional_key_may_be_left_out(tmp_path):
    """`dvc repro` runs each stage for the smallest block; a limit of the gates that changes later does not train again."""
    project = make_project(tmp_path / "project", {"small": SMALLEST})
    first = reproduced(project)
    assert "Running stage 'package@small'" in first
    change_params(project, "models.small.gates.metric_limit", 0.7)
    again = reproduced(project)
    assert "Running stage 'validate@small'" in again
    for stage in ("train", "evaluate", "refit"):
        assert f"Stage '{stage}@small' didn't change, skipping" in again
