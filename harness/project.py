"""A small project of its own: the model `churn`, its customers, and the code of this repository."""

from __future__ import annotations

import atexit
import functools
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from pipeline.settings.models import Model
from pipeline.workspaces import bytecode, dvc_config

ROOT = Path(__file__).resolve().parents[1]
CODE = ("pipeline/", "dags/", "plugins/", "docker/", "demo/", ".dvc/")
FILES = (
    *("dvc.yaml", ".gitignore", ".dvcignore", "Procfile"),
    *(
        "requirements/main.txt",
        "requirements/boosters.txt",
        "requirements/serving.txt",
        "requirements/serving-skops.txt",
    ),
)
GOOD = {"spend": 10.0, "calls": 4, "plan": "plus"}
BODY = json.dumps({"dataframe_records": [GOOD]}).encode()

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
    "monitor": {"cron": "0 6 * * *", "window_days": 20, "min_rows": 200},
    "rollout": {"engine": "process", "bake_s": 0.2},
}


def customers(days: int = 75, a_day: int = 60) -> pd.DataFrame:
    """Customers from 2024-01-01 on; who calls much and spends little leaves. Labels come two days later."""
    return _customers(days, a_day).copy()


@functools.cache
def _customers(days: int, a_day: int) -> pd.DataFrame:
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


def churn_rows(model: Model) -> pd.DataFrame:
    """The customers of the training window of `model`, whose as-of is 2024-03-01."""
    rows = customers()
    return rows[(rows.seen_at < model.as_of) & (rows.seen_at >= "2024-02-01")].reset_index(drop=True)


def bodies(count: int = 400) -> list[bytes]:
    """Requests that differ as customers do."""
    rows = customers().head(count)[["spend", "calls", "plan"]]
    rows = rows.astype(object).where(rows.notna(), None)
    return [json.dumps({"dataframe_records": [row]}).encode() for row in rows.to_dict("records")]


def make_project(folder: Path, models: dict[str, Any]) -> Path:
    """A git repository with this project's code, the given models and the customers' data."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", f"{_template(json.dumps(models))}/.", str(folder)], check=True)
    dvc_config.write_site_cache(folder)
    _git(folder, "update-index", "-q", "--refresh")
    return folder


@functools.cache
def _template(models: str) -> Path:
    """A project that others are copied from, made once by each process for each set of models."""
    folder = Path(tempfile.mkdtemp(prefix="perennial-project-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in _git(ROOT, "ls-files", "-co", "--exclude-standard").splitlines():
        if name.startswith(CODE) or name in FILES:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    bytecode.write(ROOT)
    bytecode.share(ROOT, folder)
    settings = read_yaml(ROOT / "params.yaml")
    write_params(folder, {**settings, "models": json.loads(models)})
    (folder / "customers").mkdir()
    customers().to_parquet(folder / "customers" / "all.parquet")
    with (folder / ".gitignore").open("a") as ignored:
        ignored.write("/customers/\n/home/\n")
    _git(folder, "init", "-q")
    for sample in (folder / ".git" / "hooks").iterdir():
        sample.unlink()
    _git(folder, "add", "-A")
    _git(folder, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "start")
    # One pack in place of an object for each file: a copy is a fifth of the work.
    _git(folder, "gc", "-q")
    return folder


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True).stdout


# With libyaml a change of params.yaml, which most tests make, takes a tenth of the time.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path) -> Any:
    """What the YAML file says."""
    return yaml.load(path.read_text(encoding="utf-8"), _LOADER)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):
    """Quotes a text such as 1e5, which is a number for those who read YAML 1.2."""

    def text(self, value: str) -> yaml.ScalarNode:
        quoted = re.fullmatch(r"[-+]?[0-9.]+e[-+]?[0-9]+", value, re.IGNORECASE)
        return self.represent_scalar("tag:yaml.org,2002:str", value, style="'" if quoted else None)


_Dumper.add_representer(str, _Dumper.text)


def write_params(folder: Path, settings: dict[str, Any]) -> None:
    """Writes `settings` as the params.yaml of `folder`."""
    (folder / "params.yaml").write_text(yaml.dump(settings, Dumper=_Dumper, sort_keys=False))


def change_params(folder: Path, path: str, value: Any) -> None:
    """Sets one dotted key of `folder`/params.yaml."""
    settings = read_yaml(folder / "params.yaml")
    *parents, last = path.split(".")
    at = settings
    for part in parents:
        at = at.setdefault(part, {})
    at[last] = value
    write_params(folder, settings)
