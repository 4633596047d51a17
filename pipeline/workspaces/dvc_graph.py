"""The stages, their order and their files, read from dvc.yaml so that nothing is written twice.

Also the versions of the packages that decide a model's bytes.
"""

from __future__ import annotations

import contextlib
import json
import platform
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml

from pipeline.errors import SettingsError
from pipeline.settings import yaml_file

DECISIVE = ("scikit-learn", "numpy", "pandas", "pyarrow", "skops", "skl2onnx", "onnx")
# Of `make boosters`; recorded where they are installed.
EXTRAS = ("xgboost-cpu", "lightgbm", "onnxmltools")


class Artifacts:
    """The paths of a model's files in a project or a workspace."""

    def __init__(self, root: Path, name: str) -> None:
        folder = root / "artifacts" / name
        self.folder = folder
        self.snapshot = folder / "snapshot"
        self.counts = folder / "snapshot.json"
        self.quarantine = folder / "quarantine.parquet"
        self.validation = folder / "validation.json"
        # The buckets that drift is counted in; and on a server, while `evaluate` runs, what was counted in them by other workers.
        self.edges = folder / "edges.json"
        self.counted = folder / "counted"
        self.model = folder / "model.skops"
        # Only in a rebuild: how far the recorded run's search came.
        self.recorded_search = folder / "recorded-search.json"
        self.predictions = folder / "predictions.parquet"
        self.reference = folder / "reference.parquet"
        self.metrics = folder / "metrics.json"
        self.refit = folder / "refit"
        self.package = folder / "package"

    @property
    def served_model(self) -> Path:
        """The fitted pipeline that is packed: the refitted one, or in a run from before the stage `refit` the only one."""
        return next((file for file in (self.refit / self.model.name,) if file.is_file()), self.model)

    @property
    def served_predictions(self) -> Path:
        """The held-out rows with the answers of `served_model`."""
        return next((file for file in (self.refit / self.predictions.name,) if file.is_file()), self.predictions)


def order(root: Path) -> dict[str, list[str]]:
    """The stages of `root`/dvc.yaml in an order in which they can run, each with the stages it needs.

    A stage needs the stages whose outs are among its deps. Raises SettingsError when dvc.yaml cannot be read.
    """
    try:
        stages = yaml_file.parse((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        bodies = {name: body.get("do", body) for name, body in stages.items()}
        outs = {
            _path(out): name
            for name, body in bodies.items()
            for kind in ("outs", "metrics")
            for out in body.get(kind, [])
        }
        needs = {
            name: sorted({outs[_path(d)] for d in body.get("deps", []) if _path(d) in outs})
            for name, body in bodies.items()
        }
    except (OSError, yaml.YAMLError, KeyError, AttributeError, TypeError) as error:
        raise SettingsError(
            "dvc.yaml", f"its stages cannot be read ({error})", "compare it with docs/architecture.md"
        ) from error
    ordered: dict[str, list[str]] = {}
    while len(ordered) < len(needs):
        ready = [name for name in needs if name not in ordered and all(need in ordered for need in needs[name])]
        if not ready:
            raise SettingsError("dvc.yaml", "its stages need each other in a circle", "correct their deps and outs")
        ordered |= {name: needs[name] for name in ready}
    return ordered


def outs(root: Path, stage: str, name: str) -> list[Path]:
    """The files and folders that a stage writes for the model `name`."""
    stages = yaml_file.parse((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    body = stages[stage].get("do", stages[stage])
    listed = [_path(out) for kind in ("outs", "metrics") for out in body.get(kind, [])]
    return [root / path.replace("${key}", name) for path in listed]


def environment() -> dict[str, str]:
    """The versions of Python, the machine and the packages that decide a model's bytes."""
    packages = {package: version(package) for package in DECISIVE}
    for package in EXTRAS:
        with contextlib.suppress(PackageNotFoundError):
            packages[package] = version(package)
    return {"python": platform.python_version(), "machine": platform.machine()} | packages


def _path(entry: str | dict) -> str:
    return entry if isinstance(entry, str) else next(iter(entry))


def as_of(counts: Path) -> datetime:
    """The as-of of a snapshot, from the file of its counts. The later stages use it: params.yaml may write the same time in
    another way."""
    return datetime.fromisoformat(read_json(counts)["as_of"])


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
