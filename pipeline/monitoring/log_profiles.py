"""The profile of a span of the prediction log, from kept profiles of its files: so a row is counted once, and not again by each look.

A file of the log never changes, and an event time can be of any day: so a file is the partition, with a profile an hour. A merged file is
another one, and is counted once more. The first and the last hour of a span that are not whole are counted from the rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from pipeline.data.sql import quoted
from pipeline.errors import DataError
from pipeline.monitoring import log_queries
from pipeline.monitoring.answer_profile import ANSWERS
from pipeline.monitoring.log_reader import ATTEMPTS, LogFiles
from pipeline.monitoring.profiles.counting import profiles
from pipeline.monitoring.profiles.kept import Counted, Kept
from pipeline.monitoring.profiles.profile import Profile, total

HOUR_S = 3600
# So many rows are counted at a time, so that a first look at a large log takes little memory.
COUNTED_ROWS = 200_000
# The end of a file, in which Parquet keeps what is where, and the least and largest values.
TAIL_BYTES = 65_536


@dataclass(frozen=True)
class LoggedProfile:
    """The profile of a span of the log; the whole log has `logged` rows. Golden requests count in neither. `answers` is the sum of the answers
    that the profile's column ANSWERS counts, where it has one."""

    profile: Profile
    logged: int
    without_event_time: int
    answers: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        cells = {name: counts.tolist() for name, counts in self.profile.cells.items()}
        rows = {"rows": self.profile.rows, "logged": self.logged, "untimed": self.without_event_time}
        return {**rows, "cells": cells, "answers": self.answers}

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> LoggedProfile:
        cells = {name: np.array(counts, np.int64) for name, counts in values["cells"].items()}
        # A deployer of an earlier version counts no answers.
        return cls(Profile(values["rows"], cells), values["logged"], values["untimed"], values.get("answers", 0.0))


def logged_profile(folder: Path, kept: Kept, start: datetime, end: datetime) -> LoggedProfile:
    """Of the rows with event time in [start, end), as `live_quality.read_log` has them. Counts the files that are not counted yet."""
    return log_queries.read(folder, lambda connection, files: Log(connection, files, kept).span(start, end))


class Log:
    """The files of a prediction log with what is `kept` of them."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, files: LogFiles, kept: Kept) -> None:
        self._connection, self._files, self._kept = connection, files, kept
        self._paths = {identity(path): path for path in files.contents}

    def uncounted(self) -> dict[str, int]:
        """The rows of each partition that is not counted yet, golden requests too."""
        known = self._kept.counted()
        return {name: self._files.contents[path].rows for name, path in self._paths.items() if name not in known}

    def count(self) -> None:
        """Counts the partitions that are not counted yet."""
        for some in self._batches([*self.uncounted()]):
            self._kept.add(self._counted(some), self._paths)

    def span(self, start: datetime, end: datetime) -> LoggedProfile:
        first, last = int(-(-start.timestamp() // HOUR_S)), int(end.timestamp() // HOUR_S)
        edges = {int(edge["start"].timestamp() // HOUR_S): edge for edge in self._edges(start, end)}
        self._kept.prune(self._paths)
        for _ in range(ATTEMPTS):
            self.count()
            if (window := self._kept.window(self._paths.keys(), first, last, edges)) is not None:
                break
        else:
            observed = f"were removed {ATTEMPTS} times while a look added them up"
            raise DataError("profiles of the prediction log", observed, "another look is at work; look again")
        found = window.counted
        for hour, edge in edges.items():
            hours = self._counted(window.holding[hour], edge).values()
            found = sum((counted for of in hours for counted in of.values()), found)
        return LoggedProfile(found.profile, window.logged, found.untimed, found.answers)

    def _edges(self, start: datetime, end: datetime) -> Iterator[dict[str, datetime]]:
        """The parts of the first and the last hour that are in the span, where these are not whole."""
        second, last = (
            datetime.fromtimestamp(at * HOUR_S, start.tzinfo)
            for at in (-(-start.timestamp() // HOUR_S), end.timestamp() // HOUR_S)
        )
        if second > last:
            yield {"start": start, "end": end}
            return
        if start < second:
            yield {"start": start, "end": second}
        if last < end:
            yield {"start": last, "end": end}

    def _batches(self, partitions: Sequence[str]) -> Iterator[list[str]]:
        some, rows = [], 0
        for name in partitions:
            some.append(name)
            rows += self._files.contents[self._paths[name]].rows
            if rows >= COUNTED_ROWS:
                yield some
                some, rows = [], 0
        if some:
            yield some

    def _counted(
        self, partitions: Iterable[str], span: Mapping[str, datetime] | None = None
    ) -> dict[str, dict[int, Counted]]:
        """The profile of each hour of each partition, of the rows in the span alone where there is one."""
        names = {str(self._paths[name]): name for name in partitions}
        # A column that none of these files has cannot be selected from them, whatever the log's others have.
        files = self._files.only({Path(path) for path in names})
        found: dict[str, dict[int, Counted]] = {name: {} for name in names.values()}
        if not names:
            return found
        columns = [c for c in self._kept.layout.columns if not c.of and c.where is None and c.name != ANSWERS]
        kinds = {column.name: "DOUBLE" if column.kind == "number" else "VARCHAR" for column in columns}
        in_log = files.features
        features = [f", {log_queries.feature(n, kind, in_log)} AS {quoted(n)}" for n, kind in kinds.items()]
        # Of a time that is infinite there is no hour; it is in no span.
        hour = "CAST(CASE WHEN isfinite(event_time) THEN floor(epoch(event_time) / 3600) ELSE -1e9 END AS BIGINT)"
        # The names beside the features are none that a feature has (see settings.columns).
        query = f"""
            CREATE OR REPLACE TEMP TABLE counted_rows AS
            SELECT request_id || '|' || {hour} AS request_id, * EXCLUDE (request_id, event_time, is_golden) FROM (
                SELECT filename AS request_id, {log_queries.golden(files)} AS is_golden,
                       coalesce(try_cast(event_time AS TIMESTAMPTZ), received_at) AS event_time,
                       try_cast(event_time AS TIMESTAMPTZ) IS NOT NULL AS timed{self._answers(files)}{"".join(features)}
                FROM read_parquet($files, union_by_name = true, filename = true))
            WHERE NOT is_golden{" AND event_time >= $start AND event_time < $end" if span else ""}"""
        self._connection.execute(query, {"files": [*names], **self._answered(files), **(span or {})})
        by_part = profiles(self._connection, "counted_rows", self._kept.layout, self._kept.learnt, "request_id")
        summed = f"sum({ANSWERS}) FILTER (isfinite({ANSWERS}))" if self._answer_kind == "number" else "NULL"
        beside = f"SELECT request_id, count_if(NOT timed), {summed} FROM counted_rows GROUP BY 1"
        beside_of = {
            part: (untimed, sum_ or 0.0) for part, untimed, sum_ in self._connection.execute(beside).fetchall()
        }
        for part, profile in by_part.items():
            path, at = part.rsplit("|", 1)
            found[names[path]][int(at)] = Counted(total([profile], self._kept.layout), *beside_of[part])
        return found

    @property
    def _answer_kind(self) -> str:
        """Of the layout's column ANSWERS; '' without it."""
        return next((column.kind for column in self._kept.layout.columns if column.name == ANSWERS), "")

    def _answers(self, files: LogFiles) -> str:
        """SQL for that column: the answer, or its class, of the version whose answers count, and NULL for any other's."""
        of = self._kept.answered
        if not self._answer_kind:
            return ""
        told = "prediction" if self._answer_kind == "number" else "class"
        if of is None or not files.has(told):
            return f", CAST(NULL AS VARCHAR) AS {ANSWERS}"
        later = " AND received_at >= CAST($since AS TIMESTAMPTZ)" if of.since else ""
        return f", CASE WHEN version = $version{later} THEN {told} END AS {ANSWERS}"

    def _answered(self, files: LogFiles) -> dict[str, str]:
        of = self._kept.answered
        if of is None or "$version" not in self._answers(files):
            return {}
        return {"version": of.version} | ({"since": of.since} if of.since else {})


def identity(path: Path) -> str:
    """What a file's profile is kept by: its name, which no other file of the log has, its size and its end."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            return f"{path.name} {size} {hashlib.sha256(file.read()).hexdigest()}"
    except OSError as error:
        # As DuckDB says it of a file that was merged away since it was listed.
        raise duckdb.IOException(f"{path} cannot be read ({error})") from error
