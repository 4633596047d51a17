"""The champion as it was judged: what its run fitted before the held-out days, beside the package, which has learnt from these too.

A challenger is compared before its refit. Beside a champion after its own it would lack the newest days that the champion knows, and would
lose by that alone: of models as good, 18 to 33 % were stopped. So both are compared as they were judged, on all rows that neither was trained
on. A champion of before its judged model was kept is compared by its package, on the rows that are newer.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pipeline.settings.models import Model

FITTED, BLOCK = "model.skops", "block.json"


@dataclass(frozen=True)
class JudgedChampion:
    """`pipeline` is fitted by the block `model`, whose as-of is that of its run; `doubles` are the columns that float32 cannot hold, which its
    package says."""

    pipeline: Any
    model: Model
    doubles: Collection[str] = ()

    @property
    def trained_to(self) -> datetime:
        return self.model.held_out_from

    @property
    def classes(self) -> tuple[str, ...]:
        from pipeline.training.tasks import classes_of

        return classes_of(self.pipeline)

    def predict_frame(self, rows: pd.DataFrame) -> np.ndarray:
        """As that of a package: float64 (rows,), of classes (rows, classes)."""
        from pipeline.training import evaluate
        from pipeline.training.tasks import Answers

        return Answers.of(evaluate.scored(self.pipeline, rows, self.model, self.doubles), self.classes).values

    def write(self, folder: Path) -> Path:
        """Puts it into an empty folder, from which another process can `read` it; returns the folder."""
        from pipeline.training import skops_file

        skops_file.save(self.pipeline, folder / FITTED)
        (folder / BLOCK).write_text(self.model.model_dump_json(exclude_unset=True), encoding="utf-8")
        return folder

    @classmethod
    def read(cls, folder: Path) -> Self:
        from pipeline.settings.models import Model
        from pipeline.training import skops_file

        return cls(
            skops_file.load(folder / FITTED), Model.model_validate_json((folder / BLOCK).read_text(encoding="utf-8"))
        )


@dataclass(frozen=True)
class Compared:
    """What a challenger is compared with: the champion as it was `judged`, or its package."""

    champion: Any
    trained_to: datetime | None
    judged: bool

    @property
    def classes(self) -> tuple[str, ...]:
        return self.champion.classes

    def predict_frame(self, rows: pd.DataFrame) -> np.ndarray:
        return self.champion.predict_frame(rows)
