"""Which stages there are, in which order, and where their files are: read off dvc.yaml, never written twice.

Also what else a model's bytes come from: the packages here.
"""

from __future__ import annotations

import json
import platform
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import yaml

from pipeline.errors import SettingsError
from pipeline.settings import yaml_file

DECISIVE = ("scikit-learn", "numpy", "pandas", "pyarrow", "skops", "skl2onnx", "onnx")


class Artifacts:
    """Where a model's files are, below a project or a workspace."""

    def __init__(self, root: Path, name: str) -> None:
        folder = root / "artifacts" / name
        self.folder = folder
        self.snapshot = folder / "snapshot"
        self.counts = folder / "snapshot.json"
        self.quarantine = folder / "quarantine.parquet"
        self.validation = folder / "validation.json"
        self.model = folder / "model.skops"
        self.predictions = folder / "predictions.parquet"
        self.reference = folder / "reference.parquet"
        self.metrics = folder / "metrics.json"
        self.package = folder / "package"


def order(root: Path) -> dict[str, list[str]]:
    """The stages of `root`/dvc.yaml in an order that can run, each with the stages it needs.

    The graph is read off the files: a stage needs those whose outs are among its deps.
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
            "dvc.yaml", f"its stages cannot be read ({error})", "compare with docs/architecture.md"
        ) from error
    ordered: dict[str, list[str]] = {}
    while len(ordered) < len(needs):
        ready = [n for n in needs if n not in ordered and all(m in ordered for m in needs[n])]
        if not ready:
            raise SettingsError("dvc.yaml", "its stages need each other in a circle", "look at deps and outs")
        ordered |= {name: needs[name] for name in ready}
    return ordered


def outs(root: Path, stage: str, name: str) -> list[Path]:
    """The files and folders that a stage makes for the model `name`."""
    stages = yaml_file.parse((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    body = stages[stage].get("do", stages[stage])
    listed = [_path(out) for kind in ("outs", "metrics") for out in body.get(kind, [])]
    return [root / path.replace("${key}", name) for path in listed]


def environment() -> dict[str, str]:
    """The versions of what decides a model's bytes."""
    return {"python": platform.python_version(), "machine": platform.machine()} | {
        package: version(package) for package in DECISIVE
    }


def _path(entry: str | dict) -> str:
    return entry if isinstance(entry, str) else next(iter(entry))


def as_of(counts: Path) -> datetime:
    """The as-of that a snapshot was taken for, from its counts: the later stages go by it, however params.yaml writes it."""
    return datetime.fromisoformat(read_json(counts)["as_of"])


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
