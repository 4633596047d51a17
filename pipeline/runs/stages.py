"""The stages: pure file-in, file-out, named and ordered in dvc.yaml and nowhere else.

dvc.yaml calls `python -m pipeline stage NAME MODEL`, which runs one stage in the current folder. A stage reads and writes
only under artifacts/MODEL; snapshot also queries the source and links partitions that have landed before. Each stage runs
in its own process and imports only what it needs.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.settings.environment import Environment, nearest_root
from pipeline.settings.models import Model, load
from pipeline.workspaces.dvc_graph import Artifacts, as_of, outs


def snapshot(name: str, model: Model, files: Artifacts) -> str:
    """Queries the source and links what has landed: writes the snapshot's partitions and counts. Returns the log's
    line, as each stage does."""
    from pipeline.data import changing_sql
    from pipeline.data import snapshot as snapshots

    environment = Environment.read()
    index = environment.home / "partitions.db"
    taken = snapshots.take(
        name, model, environment.project, files.snapshot, files.counts, index, nearest_root(Path.cwd())
    )
    summary = f"{taken.rows:,} labelled rows in {taken.partitions} partitions, {taken.landed} of them new"
    summary += _in_float64(files)
    if left_out := taken.without_label + taken.label_later:
        known = f"{taken.without_label:,} lack it though its time has come, {taken.label_later:,} had none at the as-of"
        summary += f"; {left_out:,} of {taken.rows_in:,} rows left out for want of a label ({known})"
    if taken.delay is not None:
        summary += f"; {taken.delay}"
    if model.source.label_time is None:
        summary += "; without source.label_time each label counts as known at its row's own time"
    if model.source.key is None:
        summary += "; without source.key a row is known by its event time and features"
    if model.source.query is not None:
        changing = changing_sql.changing(model.source.query)
        summary += "".join(f"; source.query has {what}, {why}" for what, why in changing)
    return summary


def validate(name: str, model: Model, files: Artifacts) -> str:
    """From the snapshot: writes which rows break the contract, the report on it, and the buckets that drift is counted
    in."""
    from pipeline.data import contract
    from pipeline.monitoring import drift_reference
    from pipeline.training import frames

    validation, rows = contract.checked(name, model, files.snapshot, files.counts, files.quarantine, files.validation)
    # Here, where all rows are: then what has landed can be counted beside the training.
    layout = drift_reference.layout_of_training(frames.taught(rows, model), model, _doubles(model, files))
    layout.write(files.edges)
    line = f"{validation['kept']:,} rows kept, {validation['quarantined']:,} in quarantine"
    if alike := validation.get("alike"):
        line += f"; {alike:,} of the kept are like another in event time and features: without source.key nothing tells them apart"
    return line


def train(name: str, model: Model, files: Artifacts) -> str:
    """From the rows that keep the contract, the held-out days left out: writes the fitted model, after the search where
    there is one."""
    from pipeline.data import contract
    from pipeline.training import frames, measured, skops_file
    from pipeline.training.search import clocks
    from pipeline.training.search import run as search

    doubles = frames.schema_of(model, files.snapshot).doubles
    rows = contract.kept_rows(files.snapshot, files.quarantine)
    fitted = measured.fitted(rows, model, doubles, clocks.recorded(files.recorded_search))
    skops_file.save(fitted, files.model)
    line = f"{model.training.estimator}, {files.model.stat().st_size / 1e6:.1f} MB"
    said = (str(measured.choice_of(fitted)), search.said(getattr(fitted, search.ATTRIBUTE, {})))
    return "; ".join(filter(None, (line, *said)))


def evaluate(name: str, model: Model, files: Artifacts) -> str:
    """From the model and the held-out days: writes its answers, its metrics, and the reference that drift is measured
    from."""
    import pandas as pd

    from pipeline.data import contract
    from pipeline.monitoring import answer_shift, drift_reference, estimated_quality
    from pipeline.monitoring.profiles import counted_before, layout, reference
    from pipeline.training import evaluate as evaluation
    from pipeline.training import frames

    rows, doubles = contract.kept_rows(files.snapshot, files.quarantine), _doubles(model, files)
    result = evaluation.evaluate(model, rows, files.model, files.predictions, files.reference, files.metrics, doubles)
    edges = layout.Layout.of_file(files.edges)
    known = counted_before.read(files.counted, edges)
    learnt, taken = drift_reference.counted(frames.taught(rows, model), model, doubles, edges, known)
    answered = pd.read_parquet(files.predictions)
    quality = estimated_quality.learnt(answered, model, result.classes, doubles)
    with_version = replace(
        learnt,
        importances=result.importances,
        quality=quality.as_dict() if quality else {},
        answers=answer_shift.held_out_answers(answered, result.classes),
        newcomers=drift_reference.newcomers(rows, model),
    )
    reference.keep_in(files.reference, with_version)
    scored = f"{result.metric} {evaluation.shown(result.metric, result.metrics[result.metric])} on {result.rows:,} held-out rows"
    beside = [f"{taken} days were counted beside the training"] if taken else []
    return "; ".join([scored, *result.remarks, *beside])


def refit(name: str, model: Model, files: Artifacts) -> str:
    """Learns again from all days, the held-out ones too, with the options of the judged model; `evaluation.refit:
    false` copies that one."""
    from pipeline.data import contract
    from pipeline.training import frames
    from pipeline.training import refit as refits

    rows = contract.kept_rows(files.snapshot, files.quarantine)
    doubles = frames.schema_of(model, files.snapshot).doubles
    done = refits.write(model, rows, files.model, files.predictions, files.refit, doubles)
    if not model.evaluation.refit:
        return "the model that was judged is served (evaluation.refit: false)"
    line = f"learnt from {done.rows:,} rows, {done.new:,} of them held out; answers to these moved by {done.churn:.3f} of the judged model's error"
    return f"{line}; without {done.left_out:,} rows of classes that only they have" if done.left_out else line


def package_(name: str, model: Model, files: Artifacts) -> str:
    """Writes what a slot serves from: ONNX, or skops for a model that cannot be converted, with the reason in the
    line."""
    from pipeline.training import package

    manifest = package.build(
        name, model, files.served_model, files.served_predictions, files.package, files.snapshot, refitted=True
    )
    size = sum(f.stat().st_size for f in files.package.iterdir())
    if manifest["runtime"] == "onnx":
        return f"{size / 1e6:.1f} MB of ONNX{_in_float64(files)}"
    return f"{size / 1e6:.1f} MB{_in_float64(files)}, served from skops: {manifest['runtime_reason']}"


def _doubles(model: Model, files: Artifacts) -> list[str]:
    from pipeline.training import frames

    return frames.schema_of(model, files.snapshot).doubles


def _in_float64(files: Artifacts) -> str:
    """Which numbers are not rounded to float32, in words that follow a stage's summary; '' for none."""
    from pipeline.serving.schema import Schema

    schema = Schema.of_snapshot(files.snapshot)
    return f", {', '.join(schema.doubles)} as float64" if schema is not None and schema.doubles else ""


STAGES: dict[str, Callable[[str, Model, Artifacts], str]] = {
    "snapshot": snapshot,
    "validate": validate,
    "train": train,
    "evaluate": evaluate,
    "refit": refit,
    "package": package_,
}


def run(stage: str, name: str) -> str:
    """Runs one stage in the current project or workspace and returns its summary, one line."""
    if stage not in STAGES:
        raise SettingsError(f"stage {stage}", "does not exist", f"use one of: {', '.join(STAGES)}")
    root = nearest_root(Path.cwd())
    files = Artifacts(root, name)
    model = load(root, Environment.read().params_read).model_of_a_run(name)
    if stage != next(iter(STAGES)):
        model = model.model_copy(update={"as_of": as_of(files.counts)})
    files.folder.mkdir(parents=True, exist_ok=True)
    for out in outs(root, stage, name):
        _remove(out)
    return STAGES[stage](name, model, files)


def _remove(out: Path) -> None:
    """Removes an earlier output. It may be a link into DVC's cache: writing in place would change the cache."""
    if out.is_dir() and not out.is_symlink():
        shutil.rmtree(out)
    else:
        out.unlink(missing_ok=True)
