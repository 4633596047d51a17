"""What a gate gets, and the verdict that it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.gates.judged_champion import Compared, JudgedChampion
from pipeline.settings.gates import Mode

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pipeline.gates.image_system import ServingSystem
    from pipeline.serving.runtime import Runtime
    from pipeline.settings.models import Model
    from pipeline.training.evaluate import Evaluation


@dataclass(frozen=True)
class Table:
    """Rows under a verdict in the report, such as its slices: `columns` name them, and each row has a cell for each."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | float | None, ...], ...]


@dataclass(frozen=True)
class Verdict:
    """The result of one gate: passed or not, what was observed, the limit, and the reason in words.

    `interval` is the 95 % interval of `observed`, in its unit, where the gate has one. A gate that could not judge, for want of rows
    say, is not `judged`: `passed` then says whether the version may go on, and the reason what would give a verdict. `mode` is that of
    `gates.modes` where `mode_is_set`, else the gate's own: a verdict of mode `warn` stops nothing.
    """

    gate: str
    passed: bool
    observed: float
    limit: float
    reason: str
    interval: tuple[float, float] | None = None
    judged: bool = True
    mode: Mode = "on"
    table: Table | None = None
    mode_is_set: bool = False

    @property
    def stops(self) -> bool:
        """Whether the version may not be registered."""
        return not self.passed and self.mode == "on"

    @property
    def word(self) -> str:
        """`passed`, `FAILED`, `warned` or `no verdict`."""
        if not self.passed:
            return "FAILED" if self.stops else "warned"
        return "passed" if self.judged else "no verdict"

    @property
    def has_figure(self) -> bool:
        """Whether `observed` was observed: a gate that did not come to it has no verdict and no interval."""
        return self.judged or self.interval is not None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verdict:
        """Reads `as_dict` back, also one of before a field with a default. Raises KeyError when another field is missing."""
        known = {each.name: values[each.name] for each in fields(cls) if each.name in values or each.default is MISSING}
        if known.get("interval") is not None:
            known["interval"] = tuple(known["interval"])
        if (table := known.get("table")) is not None:
            known["table"] = Table(tuple(table["columns"]), tuple(tuple(row) for row in table["rows"]))
        return cls(**known)

    def __str__(self) -> str:
        return f"{self.word} {self.gate}: {self.reason}"


@dataclass(frozen=True)
class ValidatedData:
    """The data of a run after the stage `validate`: the model's settings, and the report of that stage."""

    model: Model
    validation: dict[str, Any]


@dataclass(frozen=True)
class LiveFacts:
    """What was recorded of the live version: `requests` are rows of its prediction log, the newest, with the features as the log has them,
    or None with the reason in `no_requests`; `importances` those that its evaluation found, by feature."""

    requests: pd.DataFrame | None = None
    no_requests: str = ""
    importances: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PackagedModel(ValidatedData):
    """A model after the stage `package`, with the champion that it is to replace.

    `held_out` has the held-out rows with the answers in the column `prediction` of the model that never saw them: it is judged. `served`
    has the same rows with those of the refitted model, which is packed; None where the judged one is. `package` and `champion` answer as
    their slots do. There may be no champion; `champion_prediction` has its answers to the held-out rows. With `accept_schema_change`
    the model may take other columns than the champion. The champion was trained on rows with an event time before
    `champion_trained_to`, None where nobody knows it. `known` are the categories that the judged model knows, by column; None where these
    are the package's.

    `reference` is the sample of the rows that were learnt from, `package_bytes` the size of the package, and `root` the folder of the
    run's own files. `judged_champion` is the champion as its own run judged it, where that was kept. `live` has what is known of the version that is live beside its package; None without one.
    `serving_system` asks who has the engine what would serve a runtime (onnx, skops), and raises PerennialError; own gates do not have it.
    """

    evaluation: Evaluation
    held_out: pd.DataFrame
    package: Runtime
    champion: Runtime | None = None
    champion_version: str | None = None
    backfill: bool = False
    accept_schema_change: bool = False
    champion_trained_to: datetime | None = None
    reference: pd.DataFrame | None = None
    package_bytes: int = 0
    root: Path | None = None
    live: LiveFacts | None = None
    served: pd.DataFrame | None = None
    known: Mapping[str, frozenset[str]] | None = None
    judged_champion: JudgedChampion | None = None
    serving_system: Callable[[str], ServingSystem] | None = None

    @property
    def compared(self) -> Compared:
        """The champion by which a challenger is compared on held-out rows; there must be one."""
        assert self.champion is not None
        if self.judged_champion is not None:
            judged = replace(self.judged_champion, doubles=self.champion.reader.schema.doubles)
            return Compared(judged, judged.trained_to, True)
        return Compared(self.champion, self.champion_trained_to, False)

    @cached_property
    def champion_prediction(self) -> np.ndarray | None:
        """The champion's answers to the held-out rows, float64 (rows,), of classes (rows, classes) in the order of `compared.classes`.

        They are those of `compared`: of the champion as it was judged, before its refit, as `prediction` has the candidate's. None where
        there is no champion, or where the rows lack a column that it needs.
        """
        if self.champion is None or not {*self.champion.features} <= {*self.held_out.columns}:
            return None
        return self.compared.predict_frame(self.held_out)
