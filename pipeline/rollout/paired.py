"""Compares the predictions of two versions for the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.policy.canary import Paired
from pipeline.registry.versions import Registry
from pipeline.rollout.routing.route import RoutedSlot
from pipeline.serving import comparable, logged_words
from pipeline.serving.runtime import Runtime
from pipeline.serving.schema import Rows, times
from pipeline.training.tasks import PREDICTION, PROBABILITIES, TASKS, Answers

if TYPE_CHECKING:
    import pyarrow as pa

# Distinct rows are counted up to this number.
MAX_DISTINCT = 10_000


@dataclass
class Sides:
    """Counts of the rows that two versions' answers put on different sides, at each of the cuts of `side_of` (see `Task.sides`)."""

    side_of: Callable[[Answers], np.ndarray]
    cuts: int
    up: np.ndarray = field(init=False)
    down: np.ndarray = field(init=False)
    rows: int = 0

    def __post_init__(self) -> None:
        self.up, self.down = np.zeros(self.cuts, dtype=int), np.zeros(self.cuts, dtype=int)

    def add(self, champion: Answers, candidate: Answers) -> None:
        """Adds the answers of both versions to the same rows."""
        before, now = self.side_of(champion), self.side_of(candidate)
        self.up += (now > before).sum(axis=0)
        self.down += (now < before).sum(axis=0)
        self.rows += len(before)

    def paired(self) -> list[Paired]:
        return [Paired(int(u), int(d), self.rows) for u, d in zip(self.up, self.down, strict=True)]


@dataclass
class Pair:
    """The packages of both versions, and the comparison of their predictions: of all rows, and of each different row once."""

    champion: Runtime
    candidate: Runtime
    slots: tuple[RoutedSlot, RoutedSlot]
    sides: Sides
    distinct_sides: Sides
    distinct: set[tuple[Any, ...]] = field(default_factory=set)

    @classmethod
    def of(cls, registry: Registry, model: str, champion: RoutedSlot, candidate: RoutedSlot) -> Pair:
        old, new = (
            Runtime.load(registry.package_folder(model, routed.version, routed.digest))
            for routed in (champion, candidate)
        )
        if old.task != new.task:
            raise ValueError(
                f"version {champion.version} is of task {old.task}, version {candidate.version} of {new.task}"
            )
        reference = training_answers(registry, model, champion, old)
        side_of = TASKS[old.task].sides(reference)
        cuts = side_of(reference).shape[1]
        return cls(old, new, (champion, candidate), Sides(side_of, cuts), Sides(side_of, cuts))

    def lacking(self, routed: RoutedSlot) -> list[str]:
        """The columns that the other version needs and requests to this slot do not have, or have in another kind."""
        own, other = self.champion.reader, self.candidate.reader
        if routed == self.slots[1]:
            own, other = other, own
        gone = {*comparable.lacking(other.schema, {*own.numbers}, {*own.texts})}
        # Rounded in the log of a version that takes float32.
        return sorted(gone | {f"{name} as float64" for name in other.doubles - own.doubles - gone})

    @property
    def unlike_times(self) -> str:
        """Why a time in the log of one version is another one to the other version; '' where it is not."""
        return comparable.unlike_times(self.champion.reader.schema, self.candidate.reader.schema)

    def take(self, table: pa.Table) -> None:
        """Compares the predictions for logged rows. Raises ValueError when the log lacks a feature."""
        if not len(table):
            return
        logged = features_of(table)
        # By slot too: both packages may have the same number.
        versions, slots = table["version"].to_numpy(), table["slot"].to_numpy()
        pair = [rows_of(logged, runtime) for runtime in (self.champion, self.candidate)]
        champion, candidate = (
            said(table, (versions == by.version) & (slots == by.slot), runtime, rows)
            for by, runtime, rows in zip(self.slots, (self.champion, self.candidate), pair, strict=True)
        )
        self.compare(pair, champion, candidate)

    def compare(self, rows: Sequence[Rows], champion: np.ndarray, candidate: np.ndarray) -> None:
        """Adds the predictions of both versions for the same rows, as each version's package takes them."""
        self._add(self.sides, champion, candidate)
        new = self._new_rows(rows)
        self._add(self.distinct_sides, champion[new], candidate[new])

    def _add(self, sides: Sides, champion: np.ndarray, candidate: np.ndarray) -> None:
        sides.add(Answers(champion, self.champion.classes), Answers(candidate, self.candidate.classes))

    def _new_rows(self, pair: Sequence[Rows]) -> list[int]:
        """The places of the rows that were not seen before, each different row once, until MAX_DISTINCT are known."""
        if len(self.distinct) >= MAX_DISTINCT:
            return []
        new = []
        for i in range(len(pair[0])):
            row = tuple(value for rows in pair for value in (rows.numbers[i].tobytes(), *rows.texts[i]))
            if row not in self.distinct:
                self.distinct.add(row)
                new.append(i)
        return new


def features_of(table: pa.Table) -> dict[str, np.ndarray]:
    """The logged features by name, each of shape (rows,)."""
    if "features" not in table.column_names:
        return {}
    features = table["features"].combine_chunks()
    columns: dict[str, np.ndarray] = {}
    for i, column in enumerate(features.type):
        words = logged_words.spread(column.name, features.field(i), columns)
        columns |= words or {column.name: features.field(i).to_numpy(zero_copy_only=False)}
    return columns


def event_times(table: pa.Table | pa.RecordBatch) -> list[str | None]:
    """The event times of logged rows: that of the request, or its receipt, to which its ages were counted then; None for neither."""
    known: list[str | None] = [None] * table.num_rows
    for name in ("event_time", "received_at"):
        if name in table.schema.names:
            known = [at or times.canonical(given) for at, given in zip(known, table[name].to_pylist(), strict=True)]
    return known


def rows_of(logged: dict[str, np.ndarray], runtime: Runtime) -> Rows:
    """The logged features in the form that a version's package takes."""
    if missing := [n for n in (*runtime.reader.numbers, *runtime.reader.texts) if n not in logged]:
        raise ValueError(f"the log has no column {missing[0]}")
    count = len(next(iter(logged.values()), ()))
    numbers = np.empty((count, len(runtime.reader.numbers)))
    texts = np.empty((count, len(runtime.reader.texts)), object)
    for i, name in enumerate(runtime.reader.numbers):
        numbers[:, i] = logged[name]
    for i, name in enumerate(runtime.reader.texts):
        texts[:, i] = [value or "" for value in logged[name]]
    # The other version may have another spelling for what is the same category.
    unknown = runtime.reader.spell(texts)
    return Rows(runtime.reader.held(numbers), texts, [None] * count, [None] * count, unknown)


def said(table: pa.Table, own: np.ndarray, runtime: Runtime, rows: Rows) -> np.ndarray:
    """What a version answers to logged rows: as logged where they are its `own`, and else what its package says."""
    import pyarrow as pa

    predictions = runtime.predict(rows)
    if own.any():
        logged = Answers.of(table.filter(pa.array(own)), runtime.classes).values
        predictions[own] = logged
    return predictions


def training_answers(registry: Registry, model: str, champion: RoutedSlot, runtime: Runtime) -> Answers:
    """The champion's answers to its own sample of the training data."""
    import pyarrow.parquet as pq

    file = registry.reference_file(model, champion.version, champion.digest)
    columns = [PREDICTION, *([PROBABILITIES] if runtime.classes else [])]
    return Answers.of(pq.read_table(file, columns=columns), runtime.classes)
