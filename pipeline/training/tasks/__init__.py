"""What a model predicts: one file a task, and this list of them. Nothing else of the product asks for a task by its name.

Settings and the snapshot ask too, so a task imports nothing of ours but errors, and numpy and scikit-learn only where it computes.
"""

from __future__ import annotations

from pipeline.training.tasks.base import PREDICTION, PROBABILITIES, Answers, Metric, Settings, Task, classes_of
from pipeline.training.tasks.binary import Binary
from pipeline.training.tasks.multiclass import Multiclass
from pipeline.training.tasks.regression import Regression

__all__ = ["METRICS", "PREDICTION", "PROBABILITIES", "TASKS", "Answers", "Metric", "Task", "classes_of", "of"]

TASKS: dict[str, type[Task]] = {kind.name: kind for kind in (Binary, Multiclass, Regression)}
# By name: a name means the same in each task.
METRICS: dict[str, Metric] = {metric.name: metric for kind in TASKS.values() for metric in kind.metrics}


def of(training: Settings) -> Task:
    """The task of a model's section `training`."""
    return TASKS[training.task](training)
