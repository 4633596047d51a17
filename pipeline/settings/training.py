"""What a model learns, by what, and how it is judged: the sections `training` and `evaluation` of a model's block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pipeline.settings.columns import ColumnName
from pipeline.settings.search import Scalar, Search
from pipeline.settings.section import MOST, Section
from pipeline.training import tasks


def _one_of(known: Iterable[str]) -> AfterValidator:
    def check(written: str) -> str:
        if written not in known:
            raise ValueError(f"must be one of {', '.join(known)}; got {written!r}")
        return written

    return AfterValidator(check)


TaskName = Annotated[str, _one_of(tasks.TASKS)]
MetricName = Annotated[str, _one_of(tasks.METRICS)]

Part = Literal["hour", "weekday", "month", "year_day", "age"]
Encoding = Literal["auto", "ordinal", "one_hot", "target", "hashed", "native"]
# A list is for those few options that take one, such as hidden_layer_sizes.
Option = Scalar | tuple[Scalar, ...]


class Training(Section):
    """`models.NAME.training`: what is learnt from which columns, and by which estimator. No column is a feature of two
    kinds."""

    task: TaskName = "binary"
    target: ColumnName
    # Of the target's two labels the one that becomes 1; None where they are 0 and 1, or true and false.
    positive: bool | int | float | str | None = None
    numeric: tuple[ColumnName, ...] = ()
    datetime: tuple[ColumnName, ...] = ()
    text: tuple[ColumnName, ...] = ()
    # The parts of each datetime, or of single ones by their name; the groups of words of each text.
    calendar: tuple[Part, ...] | dict[ColumnName, tuple[Part, ...]] = ()
    words: int = Field(default=0, ge=0, le=2048)
    word_weights: Literal["counts", "tf_idf"] = "counts"
    categorical: tuple[ColumnName, ...] = ()
    # How a category becomes numbers: of all, and of single ones by their name.
    encoding: Encoding = "auto"
    encodings: dict[ColumnName, Encoding] = Field(default_factory=dict)
    estimator: str = "hist_gradient_boosting"
    options: dict[str, Option] = Field(default_factory=dict)
    # A column of numbers from 0: how much a row counts in fitting and in figures.
    weight: ColumnName | None = None
    seed: int = Field(default=0, ge=0, lt=2**32)
    search: Search | None = None
    calibration: Literal["none", "sigmoid", "isotonic"] = "none"
    runtime: Literal["auto", "onnx", "skops"] = "auto"

    def calendar_of(self, column: str) -> tuple[Part, ...]:
        """The parts of a datetime that the model gets beside its days."""
        return self.calendar.get(column, ()) if isinstance(self.calendar, dict) else self.calendar

    def calendar_faults(self, event_time: str) -> Iterator[tuple[str, str]]:
        """(key, fault) of what `calendar` names and cannot be."""
        by_column = isinstance(self.calendar, dict)
        for column in self.calendar if by_column else ():
            if column not in self.datetime:
                yield f"training.calendar.{column}", "is no column under training.datetime"
        if event_time in self.datetime and "age" in self.calendar_of(event_time):
            why = f"the age of {event_time} is always 0, because it is the event time; "
            if by_column:
                yield f"training.calendar.{event_time}", f"{why}leave age out"
            else:
                yield "training.calendar", f"{why}name the columns that have one, such as {{signup_at: [age]}}"

    def encoding_of(self, category: str) -> Encoding:
        return self.encodings.get(category, self.encoding)

    @property
    def features(self) -> list[str]:
        return [*self.numeric, *self.datetime, *self.text, *self.categorical]

    @property
    def weights(self) -> list[str]:
        """The column of weights, if there is one."""
        return [self.weight] if self.weight is not None else []


class Evaluation(Section):
    """`models.NAME.evaluation`: the newest `holdout_days` of a window judge a version, by `metric`; the model that is
    judged does not learn from them."""

    holdout_days: float = Field(gt=0)
    metric: MetricName
    min_holdout_rows: int = Field(default=50, ge=1, le=MOST)
    reference_rows: int = Field(default=10_000, ge=1, le=MOST)
    golden_rows: int = Field(default=20, ge=1, le=MOST)
    # Whether the package carries rows of the data, so that its slots explain predictions.
    explain: bool = False
    # Whether what is served learns from the held-out rows too, when these have judged the model.
    refit: bool = True
