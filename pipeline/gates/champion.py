"""Is the new model not worse than the champion on the same held-out rows?

The champion answers through its own package, as it does live. It may have been trained on some of these rows. That favours
the champion, so the gate errs on the side of the version that is live. A champion that needs a column which the data no longer
has cannot be compared. The gate then passes and says so: failing would stop this run and every later one, and the gate `schema` has
asked a person already.
"""

from __future__ import annotations

from pipeline.gates.base import PackagedModel, Verdict
from pipeline.serving.schema import Schema
from pipeline.training import tasks, weights
from pipeline.training.evaluate import gain, shown, shown_gain
from pipeline.training.tasks import Answers


def verdict(packaged: PackagedModel) -> Verdict | None:
    """None for a backfill: its model never replaces the champion, and what is live today may not decide what the past
    looked like."""
    if packaged.backfill:
        return None
    model, held_out, version = packaged.model, packaged.held_out, packaged.champion_version
    tolerance, metric = model.gates.champion_tolerance, model.evaluation.metric
    if packaged.champion is None:
        return Verdict("champion", True, 0.0, -tolerance, "there is no champion yet")
    if missing := _missing(packaged):
        reason = (
            f"not comparable: the champion, version {version}, needs {', '.join(missing)}, which the data no longer has; "
            "the other gates judge the model alone"
        )
        return Verdict("champion", True, 0.0, -tolerance, reason)
    if packaged.champion.task != model.training.task:
        reason = f"not comparable: the champion, version {version}, is of task {packaged.champion.task}"
        return Verdict("champion", True, 0.0, -tolerance, f"{reason}; the other gates judge the model alone")
    target = held_out[model.training.target].to_numpy()
    task, weight = tasks.of(model.training), weights.of(held_out, model.training, "evaluate")
    champion_answers = Answers(packaged.champion.predict_frame(held_out), packaged.champion.classes)
    champion = task.score(metric, target, champion_answers, weight)
    candidate = task.score(metric, target, Answers.of(held_out, packaged.package.classes), weight)
    by = gain(metric, candidate, champion, packaged.evaluation.baseline[metric])
    allowed = f", at most {shown_gain(metric, tolerance)} worse allowed (gates.champion_tolerance)" if tolerance else ""
    return Verdict(
        "champion",
        by >= -tolerance,
        by,
        -tolerance,
        f"{metric} {shown(metric, candidate)} against {shown(metric, champion)} for version {version} on the same "
        f"{len(held_out):,} rows{allowed}",
    )


def _missing(packaged: PackagedModel) -> list[str]:
    """The champion's columns that the held-out rows do not have, or have in another kind."""
    assert packaged.champion is not None
    champion, candidate = (_held_as(package.reader.schema) for package in (packaged.champion, packaged.package))
    columns = set(packaged.held_out.columns)
    # A column of the rows that is no feature of the candidate has the champion's kind, as long as it says no other.
    return sorted(name for name, held in champion.items() if name not in columns or candidate.get(name, held) != held)


def _held_as(schema: Schema) -> dict[str, str]:
    """What a column's cells are in the held-out rows: numbers, times, or texts of a kind."""
    return {c.name: "number" if c.kind in ("integer", "boolean") else c.kind for c in schema.columns}
