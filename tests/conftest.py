"""Shared pieces: a project of its own for each test that needs one, with a small model that is not about flights."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline.ledger.store import Ledger
from pipeline.settings.models import Params, load
from pipeline.workspaces import stage_server
from tests.support import side_by_side
from tests.support.ledgers import ledger_of
from tests.support.rollouts import site, trained  # noqa: F401

# For each call httpx reads all the certificates of this machine, 70 ms of processor time; nobody here speaks TLS.
httpx._transports.default.create_ssl_context = functools.cache(httpx.create_ssl_context)

ROOT = Path(__file__).resolve().parents[1]
REQUIRED = set(filter(None, os.environ.get("PERENNIAL_REQUIRE", "").split(",")))


def skip_or_fail(what: str, reason: str) -> None:
    """Skips with its reason, unless $PERENNIAL_REQUIRE says that `what` must be there."""
    if what in REQUIRED:
        pytest.fail(f"{what} is required here, but {reason}")
    pytest.skip(f"{what}: {reason}")


def pytest_configure(config: pytest.Config) -> None:
    """Stages of all tests, and of all workers of pytest-xdist, are forked by one server; tests/test_forkserver.py has others too."""
    held = contextlib.ExitStack()
    held.enter_context(stage_server.running(at_once=False))
    config.add_cleanup(held.close)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return side_by_side.scheduler(config, log)


@pytest.fixture(autouse=True)
def _clean_environment() -> Iterator[None]:
    """Before and after each test: MLflow, for one, sets its variable for good, and the next module's fixtures would see it."""
    _forget_environment()
    yield
    _forget_environment()


def _forget_environment() -> None:
    kept = ("PERENNIAL_REQUIRE", stage_server.VARIABLE)
    ours = [name for name in os.environ if name.startswith("PERENNIAL_") and name not in kept]
    for name in (*ours, "MLFLOW_TRACKING_URI", "AIRFLOW_HOME"):
        os.environ.pop(name, None)


CHURN = {
    "description": "Will this customer leave?",
    "as_of": "2024-03-01T00:00:00Z",
    "schedule": {"cron": "0 0 * * *", "start": "2024-01-01T00:00:00Z", "end": "2024-06-01T00:00:00Z"},
    "source": {
        "query": "SELECT * FROM read_parquet('customers/*.parquet', union_by_name = true) WHERE seen_at >= $start AND seen_at < $end",
        "key": "customer",
        "event_time": "seen_at",
        "label_time": "decided_at",
        "window_days": 30,
    },
    "training": {
        "task": "binary",
        "target": "left",
        "numeric": ["spend", "calls"],
        "categorical": ["plan"],
        "estimator": "hist_gradient_boosting",
        "options": {"max_iter": 20},
        "seed": 1,
    },
    "evaluation": {"holdout_days": 7, "metric": "roc_auc", "reference_rows": 2000, "golden_rows": 10},
    "gates": {
        "metric_limit": 0.6,
        "baseline_margin": 0.01,
        "champion_tolerance": 0.05,
        "contract": {
            "min_rows": 100,
            "max_bad_share": 0.01,
            "columns": {
                "spend": {"min": 0, "max": 1000},
                "calls": {"min": 0, "nullable": True},
                "plan": {"allowed": ["basic", "plus"]},
            },
        },
    },
    "monitor": {"cron": "0 6 * * *", "window_days": 20, "min_rows": 200, "features_limit": 1},
    "rollout": {"engine": "process", "bake_s": 0.2},
}


def customers(days: int = 75, a_day: int = 60) -> pd.DataFrame:
    """Customers from 2024-01-01 on; who calls much and spends little leaves. Labels come two days later."""
    rng = np.random.default_rng(7)
    rows = days * a_day
    seen = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.arange(rows) * 86_400 / a_day, unit="s")
    spend, calls = rng.uniform(1, 200, rows), rng.poisson(3, rows).astype(float)
    left = (calls * 20 - spend + rng.normal(0, 40, rows) > 0).astype(float)
    calls[rng.random(rows) < 0.05] = np.nan
    return pd.DataFrame(
        {
            "customer": [f"c{i:06d}" for i in range(rows)],
            "seen_at": seen.as_unit("us"),
            "spend": spend,
            "calls": calls,
            "plan": rng.choice(["basic", "plus"], rows),
            "left": left,
            "decided_at": (seen + pd.Timedelta(days=2)).as_unit("us"),
        }
    )


def make_project(folder: Path, models: dict) -> Path:
    """A git repository with this project's code, the given models and the customers' data."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if name.startswith(("pipeline/", "dags/", "plugins/", "docker/", "demo/", ".dvc/")) or name in (
            "dvc.yaml",
            ".gitignore",
            ".dvcignore",
            "requirements/main.txt",
            "requirements/serving.txt",
            "requirements/serving-skops.txt",
            "Procfile",
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    write_params(folder, {**settings, "models": models})
    (folder / "customers").mkdir(parents=True)
    customers().to_parquet(folder / "customers" / "all.parquet")
    (folder / ".gitignore").open("a").write("/customers/\n/home/\n")
    (folder / ".dvc" / "config.local").write_text(f"[core]\n    site_cache_dir = {folder}/.perennial/dvc-site\n")
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "start"],
    ):
        subprocess.run(["git", "-C", str(folder), *command], check=True)
    return folder


def write_params(folder: Path, settings: dict) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))


def change_params(folder: Path, path: str, value) -> None:
    """Sets one dotted key of `folder`/params.yaml."""
    settings = yaml.safe_load((folder / "params.yaml").read_text())
    *parents, last = path.split(".")
    at = settings
    for part in parents:
        at = at.setdefault(part, {})
    at[last] = value
    write_params(folder, settings)


@pytest.fixture(scope="session")
def churn_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of a model of CHURN, made once."""
    return build_package(tmp_path_factory.mktemp("package"), CHURN)


def build_package(folder: Path, model: dict) -> Path:
    """Trains `model` on the customers, in `folder`, and packages it."""
    from pipeline.settings.models import Model
    from pipeline.training import evaluate, fit, package

    settings = Model.model_validate(model)
    rows = customers()
    rows = rows[(rows.seen_at < settings.as_of) & (rows.seen_at >= "2024-02-01")].reset_index(drop=True)
    fit.save(fit.fit(rows, settings), folder / "m")
    evaluate.evaluate(settings, rows, folder / "m", folder / "p", folder / "r", folder / "e.json")
    package.build("churn", settings, folder / "m", folder / "p", folder / "package")
    return folder / "package"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the model `churn`, as the current folder."""
    made = make_project(tmp_path / "project", {"churn": CHURN})
    monkeypatch.chdir(made)
    return made


@pytest.fixture(scope="session")
def _made_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The DVC cache of a project in which `churn` was made once."""
    made = make_project(tmp_path_factory.mktemp("before") / "project", {"churn": CHURN})
    env = os.environ | {"PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=made, env=env, capture_output=True, check=True)
    return made / ".dvc" / "cache"


@pytest.fixture
def made_before(project: Path, _made_before: Path) -> Path:
    """`project`, with the stages of its first run in DVC's run-cache: they are restored, which takes a tenth of the time."""
    shutil.copytree(_made_before, project / ".dvc" / "cache")
    return project


@pytest.fixture
def settings(project: Path) -> Params:
    return load(project)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return ledger_of(tmp_path / "ledger-home")
