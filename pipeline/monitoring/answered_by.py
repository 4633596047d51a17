"""Which version answered a request: the prediction log has each request's id, as the answer's header x-request-id has it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from pipeline.monitoring import log_queries
from pipeline.monitoring.log_reader import LogFiles


@dataclass(frozen=True)
class AnsweredBy:
    """A request that a slot answered, with `rows` rows; `received_at` is UTC, ISO 8601. A client may send one id twice."""

    model: str
    version: str
    slot: str
    received_at: str
    rows: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def answered_by(predictions: Path, request: str, model: str = "") -> list[AnsweredBy]:
    """The answers to the request in the logs below `predictions`, of one model or of all, oldest first; golden requests are none.

    Raises DataError for a log that cannot be read.
    """
    folders = [predictions / model] if model else sorted(path for path in predictions.glob("*") if path.is_dir())
    found: list[AnsweredBy] = []
    for folder in filter(Path.is_dir, folders):
        found += log_queries.read(folder, partial(_of, model=folder.name, request=request))
    return sorted(found, key=lambda answer: answer.received_at)


def _of(connection: duckdb.DuckDBPyConnection, files: LogFiles, *, model: str, request: str) -> list[AnsweredBy]:
    if not files.contents:
        return []
    query = f"""
        SELECT version, slot, strftime(received_at, '%Y-%m-%dT%H:%M:%S.%g') || 'Z', count(*)
        FROM read_parquet($files, union_by_name = true)
        WHERE request_id = $request AND NOT {log_queries.golden(files)}
        GROUP BY version, slot, received_at ORDER BY received_at"""
    rows = connection.execute(query, {"files": files.names, "request": request}).fetchall()
    return [AnsweredBy(model, str(version), str(slot), str(at), int(count)) for version, slot, at, count in rows]
