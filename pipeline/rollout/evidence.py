"""The evidence on a candidate since its step began: slots and Traefik count predictions, the prediction log has their values.

Every row that either version answered is scored with the other's package too, so that both are compared on the same
requests, whatever their shares.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PerennialError
from pipeline.monitoring import log_reader
from pipeline.monitoring.log_reader import LogReader
from pipeline.policy.canary import Evidence
from pipeline.registry.versions import Registry
from pipeline.rollout.answer_counts import Answered, Served, served, since, total
from pipeline.rollout.paired import Pair, Sides
from pipeline.rollout.routing.route import RoutedSlot
from pipeline.rollout.routing.traefik import service_name
from pipeline.rollout.slots import predictions_folder
from pipeline.serving.errors import PackageRefused
from pipeline.serving.log_files import GOLDEN, GOLDEN_ID, Damaged, stem_of
from pipeline.settings.addresses import Router

if TYPE_CHECKING:
    import pyarrow as pa


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
        self._pair: Pair | None = None

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
            self._pair = Pair.of(self._registry, self._model, self._champion, self._candidate)
        if hidden := sorted({*self._pair.champion.features, *self._pair.candidate.features} & {*self._personal}):
            raise NotCompared(
                f"predictions were not compared: {', '.join(hidden)} is personal and not in the log as it was asked"
            )
        if unlike := self._pair.unlike_times:
            raise NotCompared(f"predictions were not compared: {unlike}")
        scored = [log for routed, log in self._logs.items() if not self._pair.lacking(routed)]
        if not scored:
            lacking = {name: None for routed in self._logs for name in self._pair.lacking(routed)}
            raise NotCompared(f"predictions were not compared: the requests lack {', '.join(lacking)}")
        for log in scored:
            for table in log.rows():
                self._pair.take(table)
        return self._pair.sides


class _Tail:
    """Reads the rows that a slot with its version adds to the prediction log from now on. Damaged files are left out, and said."""

    def __init__(self, folder: Path, routed: RoutedSlot) -> None:
        self._reader = LogReader(folder, f"{routed.slot}-v{routed.version}-*")
        self._read: dict[str, int] | None = None
        # A log that cannot be read now is missing at the first look, with its reason.
        with contextlib.suppress(OSError):
            self._begin()

    def _begin(self) -> dict[str, int]:
        """The rows of each process that were there before."""
        if self._read is None:
            self._read = {stem: sum(count for _, count in files) for stem, files in self._files().items()}
        return self._read

    def _files(self) -> dict[str, list[tuple[Path, int]]]:
        """The (file, rows) of each process that logs, in order. Files are merged meanwhile; their rows keep their places."""
        files: dict[str, list[tuple[Path, int]]] = {}
        for path, contents in self._reader.files().contents.items():
            files.setdefault(stem_of(path), []).append((path, contents.rows))
        return files

    def rows(self) -> Iterator[pa.Table]:
        """Tables of the new rows without golden requests. Raises FileNotFoundError when a file was merged meanwhile."""
        import pyarrow.compute as pc

        read = self._begin()
        for stem, files in self._files().items():
            before = 0
            for path, count in files:
                new = before + count - max(before, read.get(stem, 0))
                if new > 0:
                    try:
                        table = log_reader.table(path).slice(count - new)
                    except Damaged as error:
                        self._reader.leave_out(path, error)
                        left = sum(rows for _, rows in self._files().get(stem, []))
                        if left <= sum(rows for _, rows in files) - count:
                            # No other file has its rows: those after it move up.
                            read[stem] = min(read.get(stem, 0), before)
                        break
                    logged = GOLDEN in table.column_names
                    golden = table[GOLDEN] if logged else pc.starts_with(table["request_id"], GOLDEN_ID)
                    read[stem] = before + count
                    yield table.filter(pc.invert(golden))
                before += count
