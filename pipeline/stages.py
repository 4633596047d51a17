"""The stages: pure file-in, file-out, named and ordered in dvc.yaml and nowhere else.

`python -m pipeline stage NAME MODEL` runs one in the current folder: that is what dvc.yaml calls. A
stage reads and writes only under artifacts/MODEL (snapshot also asks the source).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import yaml

from pipeline import evaluation, package, training
from pipeline.data import contract
from pipeline.data import snapshot as snapshots
from pipeline.errors import SettingsError
from pipeline.params import Model, load, nearest_root, project_root


class Artifacts:
    """Where a model's files are, below a project or a workspace."""

    def __init__(self, root: Path, name: str) -> None:
        folder = root / "artifacts" / name
        self.folder = folder
        self.snapshot = folder / "snapshot"
        self.counts = folder / "snapshot.json"
        self.kept = folder / "kept.parquet"
        self.quarantine = folder / "quarantine.parquet"
        self.validation = folder / "validation.json"
        self.model = folder / "model.skops"
        self.predictions = folder / "predictions.parquet"
        self.reference = folder / "reference.parquet"
        self.metrics = folder / "metrics.json"
        self.package = folder / "package"


def snapshot(name: str, model: Model, files: Artifacts) -> str:
    counts = snapshots.take(name, model, project_root(), files.snapshot, files.counts)
    return "{rows:,} labelled rows in {partitions} partitions".format(**counts)


def validate(name: str, model: Model, files: Artifacts) -> str:
    told = contract.check(name, model, files.snapshot, files.kept, files.quarantine, files.validation)
    return f"{told['kept']:,} rows kept, {told['quarantined']:,} in quarantine"


def train(name: str, model: Model, files: Artifacts) -> str:
    training.save(training.fit(pd.read_parquet(files.kept), model), files.model)
    return f"{model.training.estimator}, {files.model.stat().st_size / 1e6:.1f} MB"


def evaluate(name: str, model: Model, files: Artifacts) -> str:
    told = evaluation.evaluate(
        model, pd.read_parquet(files.kept), files.model, files.predictions, files.reference, files.metrics
    )
    metric = told["metric"]
    return f"{metric} {told['metrics'][metric]:.4f} on {told['rows']:,} held-out rows"


def package_(name: str, model: Model, files: Artifacts) -> str:
    package.build(name, model, files.model, files.predictions, files.package)
    size = sum(f.stat().st_size for f in files.package.iterdir())
    return f"{size / 1e6:.1f} MB of ONNX"


STAGES: dict[str, Callable[[str, Model, Artifacts], str]] = {
    "snapshot": snapshot,
    "validate": validate,
    "train": train,
    "evaluate": evaluate,
    "package": package_,
}


def run(stage: str, name: str) -> str:
    """Runs one stage in the current project or workspace and returns what it did, in one line."""
    if stage not in STAGES:
        raise SettingsError(f"stage {stage}", "there is no such stage", f"the stages are: {', '.join(STAGES)}")
    root = nearest_root(Path.cwd())
    files = Artifacts(root, name)
    model = load(root).model(name)
    files.folder.mkdir(parents=True, exist_ok=True)
    return STAGES[stage](name, model, files)


def order(root: Path) -> dict[str, list[str]]:
    """The stages of `root`/dvc.yaml in an order that can run, each with the stages it needs.

    The graph is read off the files: a stage needs those whose outs are among its deps.
    """
    try:
        stages = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        bodies = {name: body.get("do", body) for name, body in stages.items()}
        outs = {_path(out): name for name, body in bodies.items() for kind in ("outs", "metrics") for out in body.get(kind, [])}
        needs = {name: sorted({outs[_path(d)] for d in body.get("deps", []) if _path(d) in outs}) for name, body in bodies.items()}
    except (OSError, yaml.YAMLError, KeyError, AttributeError, TypeError) as error:
        raise SettingsError("dvc.yaml", f"its stages cannot be read ({error})", "compare with docs/architecture.md") from error
    ordered: dict[str, list[str]] = {}
    while len(ordered) < len(needs):
        ready = [n for n in needs if n not in ordered and all(m in ordered for m in needs[n])]
        if not ready:
            raise SettingsError("dvc.yaml", "its stages need each other in a circle", "look at deps and outs")
        ordered |= {name: needs[name] for name in ready}
    return ordered


def _path(entry: str | dict) -> str:
    return entry if isinstance(entry, str) else next(iter(entry))


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
