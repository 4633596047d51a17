"""The evidence on a candidate since its step began: slots and Traefik count predictions, the prediction log has their values.

Every row that either version answered is scored with the other's package too, so that both are compared on the same
requests, whatever their shares.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import PerennialError
from pipeline.policy.canary import Evidence, Paired
from pipeline.registry.versions import Registry
from pipeline.rollout.answer_counts import Answered, Served, served, since, total
from pipeline.rollout.routing.route import RoutedSlot
from pipeline.rollout.routing.traefik import service_name
from pipeline.rollout.slots import predictions_folder
from pipeline.serving.errors import PackageRefused
from pipeline.serving.log_files import GOLDEN, GOLDEN_ID, current_files, stem_of
from pipeline.serving.runtime import Runtime
from pipeline.serving.signature import Rows
from pipeline.settings.addresses import Router

if TYPE_CHECKING:
    import pyarrow as pa

CUTS = tuple(range(10, 100, 10))
# Distinct rows are counted up to this number.
MAX_DISTINCT = 10_000


@dataclass
class Sides:
    """Counts of the rows whose predictions by two versions lie on different sides of a cut, at each of `cuts`."""

    cuts: np.ndarray
    up: np.ndarray = field(init=False)
    down: np.ndarray = field(init=False)
    rows: int = 0

    def __post_init__(self) -> None:
        self.up, self.down = np.zeros(len(self.cuts), dtype=int), np.zeros(len(self.cuts), dtype=int)

    def add(self, champion: np.ndarray, candidate: np.ndarray) -> None:
        """Adds the predictions of both versions for the same rows, each of shape (rows,)."""
        before, now = champion[:, None] > self.cuts, candidate[:, None] > self.cuts
        self.up += (now & ~before).sum(axis=0)
        self.down += (before & ~now).sum(axis=0)
        self.rows += len(champion)

    def paired(self) -> list[Paired]:
        return [Paired(int(u), int(d), self.rows) for u, d in zip(self.up, self.down, strict=True)]


class NotCompared(Exception):
    """The log does not hold what both versions need, so predictions cannot be compared; str() names the features."""


class Observer:
    """Collects the evidence of one step: `look()` covers the time since the observer was created.

    `champion` is None when there is no package to compare with; `compare_traffic` says that both versions get traffic now.
    Answers are not timed without `slow_ms`. Predictions are not compared without `compare_predictions`, nor when a version uses
    `personal` features, whose values are not in the log.
    """

    def __init__(
        self,
        registry: Registry,
        router: Router,
        model: str,
        champion: RoutedSlot | None,
        candidate: RoutedSlot,
        slow_ms: float | None,
        *,
        compare_traffic: bool,
        compare_predictions: bool = True,
        shadow: bool = False,
        personal: Collection[str] = (),
    ) -> None:
        self._personal, self._compare_predictions = personal, compare_predictions
        self._registry, self._router, self._model, self._slow_ms = registry, router, model, slow_ms
        home = registry.home
        self._champion, self._candidate, self._compare_traffic = champion, candidate, compare_traffic
        folders = {candidate: predictions_folder(home, model, shadow)}
        if champion is not None and compare_traffic and not shadow:
            # Not with a shadow: each request is in both logs then, and must count once.
            folders[champion] = predictions_folder(home, model)
        self._logs = {routed: _Tail(folder, routed) for routed, folder in folders.items()}
        self._slots = {service_name(model, s): s.address for s in (champion, candidate) if s is not None}
        self._last, self._counted = self._served(), dict[str, Answered]()
        # With all traffic moved the champion has none now; its earlier counts say what is usual.
        past = self._last.get(service_name(model, champion)) if self._last and champion is not None else None
        self._before = total(past) if past is not None else None
        self._pair: _Pair | None = None

    def look(self) -> Evidence:
        """All that was counted and logged since the step began."""
        now = self._served()
        if now is None:
            return Evidence(missing="the router's metrics are missing")
        traffic = self._traffic(now)
        if self._champion is None or not self._compare_predictions:
            return traffic
        try:
            first, *distribution = self._compare().paired()
        except NotCompared as why:
            return replace(traffic, not_compared=str(why))
        except (PackageRefused, PerennialError, OSError, ValueError, KeyError) as error:
            return replace(traffic, missing=f"the two versions' predictions cannot be compared ({error})")
        once, *once_distribution = (
            self._pair.distinct_sides.paired() if self._pair is not None else [first, *distribution]
        )
        return replace(
            traffic,
            sides=first,
            distribution=tuple(distribution),
            distinct_rows=once.of,
            distinct_sides=once,
            distinct_distribution=tuple(once_distribution),
        )

    def _traffic(self, now: dict[str, Served]) -> Evidence:
        # When Traefik did not answer at the start of the step, the step begins with the first counts.
        self._last = self._last if self._last is not None else dict(now)
        candidate, champion = self._since(now, self._last, self._candidate), self._before
        if self._champion is not None and self._compare_traffic:
            champion = self._since(now, self._last, self._champion)
        failed, slow, refused = candidate.counts
        none = (None, None, None)
        champion_failed, champion_slow, champion_refused = champion.counts if champion is not None else none
        return Evidence(
            failed,
            champion_failed,
            slow if self._slow_ms is not None else None,
            champion_slow if self._slow_ms is not None else None,
            refused=refused,
            champion_refused=champion_refused,
            past=not self._compare_traffic,
        )

    def _served(self) -> dict[str, Served] | None:
        return served(self._router, self._slots, self._slow_ms)

    def _since(self, now: dict[str, Served], last: dict[str, Served], routed: RoutedSlot) -> Answered:
        """The slot's counts in this step, added up from look to look: a restart loses only what came after the last look."""
        name = service_name(self._model, routed)
        counted = now.get(name, Served())
        self._counted[name] = self._counted.get(name, Answered()) + since(counted, last.get(name, Served()))
        # A slot that did not answer has its counters still, unless it begins anew.
        last[name] = replace(counted, slot=counted.slot or last.get(name, Served()).slot)
        return self._counted[name]

    def _compare(self) -> Sides:
        assert self._champion is not None
        if self._pair is None:
            self._pair = _Pair.of(self._registry, self._model, self._champion, self._candidate)
        if hidden := sorted({*self._pair.champion.features, *self._pair.candidate.features} & {*self._personal}):
            raise NotCompared(
                f"predictions were not compared: {', '.join(hidden)} is personal and not in the log as it was asked"
            )
        scored = [log for routed, log in self._logs.items() if not self._pair.lacking(routed)]
        if not scored:
            lacking = {name: None for routed in self._logs for name in self._pair.lacking(routed)}
            raise NotCompared(f"predictions were not compared: the requests lack {', '.join(lacking)}")
        for log in scored:
            for table in log.rows():
                self._pair.take(table)
        return self._pair.sides


class _Tail:
    """Reads the rows that a slot with its version adds to the prediction log from now on."""

    def __init__(self, folder: Path, routed: RoutedSlot) -> None:
        self._folder, self._pattern = folder, f"{routed.slot}-v{routed.version}-*"
        self._counts: dict[Path, int] = {}
        self._read = {stem: sum(count for _, count in files) for stem, files in self._files().items()}

    def _files(self) -> dict[str, list[tuple[Path, int]]]:
        """The (file, rows) of each process that logs, in order. Files are merged meanwhile; their rows keep their places."""
        import pyarrow.parquet as pq

        files: dict[str, list[tuple[Path, int]]] = {}
        for path in current_files(self._folder, self._pattern):
            if path not in self._counts:
                self._counts[path] = pq.read_metadata(path).num_rows
            files.setdefault(stem_of(path), []).append((path, self._counts[path]))
        return files

    def rows(self) -> Iterator[pa.Table]:
        """Tables of the new rows without golden requests."""
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        for stem, files in self._files().items():
            before = 0
            for path, count in files:
                new = before + count - max(before, self._read.get(stem, 0))
                before += count
                if new > 0:
                    table = pq.read_table(path).slice(count - new)
                    logged = GOLDEN in table.column_names
                    golden = table[GOLDEN] if logged else pc.starts_with(table["request_id"], GOLDEN_ID)
                    yield table.filter(pc.invert(golden))
            self._read[stem] = before


@dataclass
class _Pair:
    """The packages of both versions, and the comparison of their predictions: of all rows, and of each different row once."""

    champion: Runtime
    candidate: Runtime
    slots: tuple[RoutedSlot, RoutedSlot]
    sides: Sides
    distinct_sides: Sides
    distinct: set[tuple[Any, ...]] = field(default_factory=set)

    @classmethod
    def of(cls, registry: Registry, model: str, champion: RoutedSlot, candidate: RoutedSlot) -> _Pair:
        old, new = (
            Runtime.load(registry.package_folder(model, routed.version, routed.digest))
            for routed in (champion, candidate)
        )
        at = cuts(registry, model, champion, old.task)
        return cls(old, new, (champion, candidate), Sides(at), Sides(at))

    def lacking(self, routed: RoutedSlot) -> list[str]:
        """The columns that the other version needs and requests to this slot do not have, or have in another kind."""
        own, other = self.champion.signature, self.candidate.signature
        if routed == self.slots[1]:
            own, other = other, own
        return sorted({*other.numbers} - {*own.numbers} | {*other.texts} - {*own.texts})

    def take(self, table: pa.Table) -> None:
        """Compares the predictions for logged rows. Raises ValueError when the log lacks a feature."""
        if not len(table):
            return
        logged = _features(table)
        # By slot too: both packages may have the same number.
        versions, slots = table["version"].to_numpy(), table["slot"].to_numpy()
        logged_predictions = table["prediction"].to_numpy()
        pair = [_rows_of(logged, runtime) for runtime in (self.champion, self.candidate)]
        champion, candidate = (
            np.where((versions == by.version) & (slots == by.slot), logged_predictions, runtime.predict(rows))
            for by, runtime, rows in zip(self.slots, (self.champion, self.candidate), pair, strict=True)
        )
        self.sides.add(champion, candidate)
        new = self._new_rows(pair)
        self.distinct_sides.add(champion[new], candidate[new])

    def _new_rows(self, pair: list[Rows]) -> list[int]:
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


def _features(table: pa.Table) -> dict[str, np.ndarray]:
    """The logged features by name, each of shape (rows,)."""
    if "features" not in table.column_names:
        return {}
    features = table["features"].combine_chunks()
    return {column.name: features.field(i).to_numpy(zero_copy_only=False) for i, column in enumerate(features.type)}


def _rows_of(logged: dict[str, np.ndarray], runtime: Runtime) -> Rows:
    """The logged features in the form that a version's package takes."""
    if missing := [name for name in runtime.features if name not in logged]:
        raise ValueError(f"the log has no column {missing[0]}")
    count = len(next(iter(logged.values()), ()))
    numbers = np.empty((count, len(runtime.signature.numbers)), "float32")
    texts = np.empty((count, len(runtime.signature.texts)), object)
    for i, name in enumerate(runtime.signature.numbers):
        numbers[:, i] = logged[name]
    for i, name in enumerate(runtime.signature.texts):
        texts[:, i] = [value or "" for value in logged[name]]
    return Rows(numbers, texts, [None] * count, [None] * count)


def cuts(registry: Registry, model: str, champion: RoutedSlot, task: str) -> np.ndarray:
    """The cuts, of shape (10,): 0.5 or, for regression, the median; then the nine deciles, for a change of the distribution.

    Median and deciles are those of the champion's predictions for its own sample of the training data.
    """
    import pyarrow.parquet as pq

    file = registry.reference_file(model, champion.version, champion.digest)
    reference = pq.read_table(file, columns=["prediction"])
    predictions = reference["prediction"].to_numpy()
    middle = 0.5 if task == "binary" else float(np.median(predictions))
    return np.array([middle, *np.percentile(predictions, CUTS)])
