"""The section `economics` of a model's block: what a loss costs, and what a retrain costs. What is left out is guessed, and said."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from pipeline.settings.section import MOST, Section
from pipeline.training import tasks

# What one unit of loss on one row costs where nobody says, in the currency of the prices.
GUESSED_VALUE = 0.1
# Larger whole numbers stay the texts that they are.
LARGEST_WHOLE = 2**53
MONEY = "money"


class Decisions(Section):
    """The answer is taken for a yes from `threshold` on. Each outcome costs so much in prices.currency; what earns is below 0."""

    threshold: float = Field(default=0.5, gt=0, lt=1)
    true_positive: float = Field(default=0, ge=-MOST, le=MOST)
    false_positive: float = Field(ge=-MOST, le=MOST)
    true_negative: float = Field(default=0, ge=-MOST, le=MOST)
    false_negative: float = Field(ge=-MOST, le=MOST)


def label_text(written: object) -> object:
    """A label's one text, as rows have it (pipeline/data/labels.py): 2, 2.0 and "2" are 2, and True is true."""
    text = str(written).strip() if isinstance(written, str | bool | int | float) else None
    if text is None:
        return written
    if text.lower() in ("true", "false"):
        return text.lower()
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() and abs(number) < LARGEST_WHOLE else text


Label = Annotated[str, BeforeValidator(label_text)]
Money = Annotated[float, Field(ge=-MOST, le=MOST)]


class ByClass(Section):
    """`costs` has the money of a row by its true class, and then by the class that was decided; what earns is below 0. A pair that it does
    not have costs `otherwise`, and a right decision 0. The likeliest class is decided, or the one that by the probabilities costs least."""

    costs: dict[Label, dict[Label, Money]] = Field(min_length=1)
    otherwise: Money
    decided: Literal["likeliest", "cheapest"] = "likeliest"

    @field_validator("costs", mode="before")
    @classmethod
    def names_each_class_once(cls, value: Any) -> Any:
        """Two spellings of one class would be two costs of which one is lost."""
        for within in (value, *value.values()) if isinstance(value, dict) else ():
            seen: dict[object, object] = {}
            for written in within if isinstance(within, dict) else ():
                if (label := label_text(written)) in seen:
                    raise ValueError(
                        f"names the class {label!r} twice, as {seen[label]!r} and {written!r}; leave one out"
                    )
                seen[label] = written
        return value

    @property
    def named(self) -> list[str]:
        """The classes that `costs` names, sorted."""
        return sorted({*self.costs, *(label for row in self.costs.values() for label in row)})

    def of(self, true: str, decided: str) -> float:
        """What it costs to decide on a class where another one, or the same, is true."""
        return self.costs.get(true, {}).get(decided, 0.0 if true == decided else self.otherwise)


class Economics(Section):
    """`value` is the money that one unit of `loss` costs on one row; with `decisions` or `by_class` the loss is money already."""

    loss: str | None = None
    value: float | None = Field(default=None, gt=0, le=MOST)
    decisions: Decisions | None = None
    by_class: ByClass | None = None
    rows_a_day: float | None = Field(default=None, gt=0, le=MOST)
    retrain_minutes: float = Field(default=15, ge=0, le=MOST)
    approval_minutes: float = Field(default=0, ge=0, le=MOST)
    incident_minutes: float = Field(default=0, ge=0, le=MOST)
    release_risk: float = Field(default=0, ge=0, le=MOST)

    @property
    def money(self) -> Decisions | ByClass | None:
        """What says the money of each row; None where a loss and its value do."""
        return self.decisions or self.by_class

    @property
    def unit(self) -> tuple[float, Literal["yours", "guess"]]:
        """(the money of one unit of loss on one row, how it is known); with `decisions` or `by_class` the loss is money."""
        if self.money is not None:
            return 1.0, "yours"
        return (self.value, "yours") if self.value is not None else (GUESSED_VALUE, "guess")

    def loss_of(self, task: str, metric: str) -> str:
        """The loss of a model of that task and `evaluation.metric`: that metric, where it is a mean over rows and no other is stated.

        Of money its name has a digest of what says it: what was counted by other costs is another loss, and is not set beside this one.
        """
        if self.money is not None:
            stated = json.dumps(self.money.model_dump(mode="json"), sort_keys=True)
            return f"{MONEY} {hashlib.sha256(stated.encode()).hexdigest()[:6]}"
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
    kind = tasks.TASKS[task]
    if economics.decisions is not None and not kind.has_positive:
        other = "economics.by_class" if kind.of_labels else "economics.value"
        yield "economics.decisions", f"is for two outcomes, and training.task is {task}; give {other}"
    if economics.by_class is not None and not kind.of_labels:
        other = "economics.decisions" if kind.has_positive else "economics.value"
        yield (
            "economics.by_class",
            f"is for the classes of a multiclass model, and training.task is {task}; give {other}",
        )
    for stated in ("decisions", "by_class"):
        for key in ("loss", "value") if getattr(economics, stated) is not None else ():
            if getattr(economics, key) is not None:
                yield (
                    f"economics.{key}",
                    f"is not needed beside economics.{stated}, which has the money of each row; leave one out",
                )
