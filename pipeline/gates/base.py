"""What a gate gets, and the verdict that it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.serving.runtime import Runtime
    from pipeline.settings.models import Model
    from pipeline.training.evaluate import Evaluation


@dataclass(frozen=True)
class Verdict:
    """The result of one gate: passed or not, what was observed, the limit, and the reason in words."""

    gate: str
    passed: bool
    observed: float
    limit: float
    reason: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verdict:
        """Reads `as_dict` back. Raises KeyError when a field is missing."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    def __str__(self) -> str:
        return f"{'passed' if self.passed else 'FAILED'} {self.gate}: {self.reason}"


@dataclass(frozen=True)
class ValidatedData:
    """The data of a run after the stage `validate`: the model's settings, and the report of that stage."""

    model: Model
    validation: dict[str, Any]


@dataclass(frozen=True)
class PackagedModel(ValidatedData):
    """A model after the stage `package`, with the champion that it is to replace.

    `held_out` has the held-out rows with scikit-learn's answers in the column `prediction`; `package` and `champion` answer
    as their slots do. There may be no champion. With `accept_schema_change` the model may take other columns than the champion.
    """

    evaluation: Evaluation
    held_out: pd.DataFrame
    package: Runtime
    champion: Runtime | None = None
    champion_version: str | None = None
    backfill: bool = False
    accept_schema_change: bool = False
