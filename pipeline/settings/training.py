"""What a model learns, by what, and how it is judged: the sections `training` and `evaluation` of a model's block."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.settings.columns import ColumnName
from pipeline.settings.section import MOST, Section


class Training(Section):
    task: Literal["binary", "regression"] = "binary"
    target: ColumnName
    # Of the target's two labels the one that becomes 1; None where they are 0 and 1, or true and false.
    positive: bool | int | float | str | None = None
    numeric: tuple[ColumnName, ...] = ()
    datetime: tuple[ColumnName, ...] = ()
    text: tuple[ColumnName, ...] = ()
    categorical: tuple[ColumnName, ...] = ()
    estimator: str = "hist_gradient_boosting"
    options: dict[str, float | int | str | bool | None] = Field(default_factory=dict)
    seed: int = Field(default=0, ge=0, lt=2**32)
    runtime: Literal["auto", "onnx", "skops"] = "auto"

    @property
    def features(self) -> list[str]:
        return [*self.numeric, *self.datetime, *self.text, *self.categorical]


class Evaluation(Section):
    holdout_days: float = Field(gt=0)
    metric: Literal["roc_auc", "average_precision", "log_loss", "brier", "accuracy", "mae", "rmse", "r2"]
    min_holdout_rows: int = Field(default=50, ge=1, le=MOST)
    reference_rows: int = Field(default=10_000, ge=1, le=MOST)
    golden_rows: int = Field(default=20, ge=1, le=MOST)
