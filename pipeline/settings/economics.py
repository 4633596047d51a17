"""The section `economics` of a model's block: what a loss costs, and what a retrain costs. What is left out is guessed, and said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from pipeline.settings.section import MOST, Section
from pipeline.training import tasks

# What one unit of loss on one row costs where nobody says, in the currency of the prices.
GUESSED_VALUE = 0.1


class Decisions(Section):
    """The answer is taken for a yes from `threshold` on. Each outcome costs so much in prices.currency; what earns is below 0."""

    threshold: float = Field(default=0.5, gt=0, lt=1)
    true_positive: float = Field(default=0, ge=-MOST, le=MOST)
    false_positive: float = Field(ge=-MOST, le=MOST)
    true_negative: float = Field(default=0, ge=-MOST, le=MOST)
    false_negative: float = Field(ge=-MOST, le=MOST)


class Economics(Section):
    """`value` is the money that one unit of `loss` costs on one row; with `decisions` the loss is money already."""

    loss: str | None = None
    value: float | None = Field(default=None, gt=0, le=MOST)
    decisions: Decisions | None = None
    rows_a_day: float | None = Field(default=None, gt=0, le=MOST)
    retrain_minutes: float = Field(default=15, ge=0, le=MOST)
    approval_minutes: float = Field(default=0, ge=0, le=MOST)
    incident_minutes: float = Field(default=0, ge=0, le=MOST)
    release_risk: float = Field(default=0, ge=0, le=MOST)

    @property
    def unit(self) -> tuple[float, Literal["yours", "guess"]]:
        """(the money of one unit of loss on one row, how it is known); with `decisions` the loss is money."""
        if self.decisions is not None:
            return 1.0, "yours"
        return (self.value, "yours") if self.value is not None else (GUESSED_VALUE, "guess")

    def loss_of(self, task: str, metric: str) -> str:
        """The loss of a model of that task and `evaluation.metric`: that metric, where it is a mean over rows and no other is stated."""
        if self.decisions is not None:
            return "money"
        if self.loss is not None:
            return self.loss
        kind = tasks.TASKS[task]
        return metric if metric in kind.mean_losses else kind.usual_loss


def disagreements(model: Any) -> Iterator[tuple[str, str]]:
    """(key below the model's name, what is wrong with it), as in pipeline.settings.agreement."""
    economics, task = model.economics, model.training.task
    known = tasks.TASKS[task].mean_losses
    if economics.loss is not None and economics.loss not in known:
        yield (
            "economics.loss",
            f"must be a mean over the rows of a {task} model, {', '.join(known)}; got {economics.loss}",
        )
    if economics.decisions is None:
        return
    if not tasks.TASKS[task].has_positive:
        yield "economics.decisions", f"is for two outcomes, and training.task is {task}; give economics.value"
    for key in ("loss", "value"):
        if getattr(economics, key) is not None:
            yield (
                f"economics.{key}",
                "is not needed beside economics.decisions, which has the money of each row; leave one out",
            )
