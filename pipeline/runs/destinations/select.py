"""The destination that `scoring.destination` names."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from pipeline.context import Context
from pipeline.runs.destinations.base import Destination, DestinationError
from pipeline.settings import scoring as settings
from pipeline.settings.environment import named_secret
from pipeline.workspaces.kept_out import keep_out

AIRFLOW = "airflow:"


def destination_of(
    context: Context, model: str, wanted: settings.Destination, connection_url: Callable[[str], str] | None = None
) -> Destination:
    """Relative paths start at the project. `connection_url` gives a connection of Airflow as a URL; without it, it is the variable
    AIRFLOW_CONN_ID. Raises DestinationError."""
    key = f"models.{model}.scoring.destination"
    parts = context.home / "scoring" / model
    if wanted.parquet is not None:
        from pipeline.runs.destinations.parquet_folder import ParquetFolder

        return ParquetFolder(_ours(context, wanted.parquet), model, f"{key}.parquet")
    table = wanted.table or ""
    if wanted.duckdb is not None:
        from pipeline.runs.destinations.duckdb_file import DuckdbFile

        return DuckdbFile(_ours(context, wanted.duckdb, ".wal"), table, model, parts, f"{key}.duckdb")
    from pipeline.runs.destinations.sql_table import SqlTable

    url = _url(wanted.sql or "", f"{key}.sql", connection_url)
    if url.partition(":")[0].partition("+")[0] == "sqlite":
        url = _sqlite(context, url, f"{key}.sql")
    return SqlTable(url, table, model, parts, f"{key}.sql")


def _sqlite(context: Context, url: str, key: str) -> str:
    """The URL with its file in full, whichever folder a task runs in, and with the file's folder made. Raises DestinationError."""
    address, _, options = url.partition("?")
    driver, _, written = address.partition("://")
    if written and not written.startswith("/"):
        # SQLAlchemy refuses a host.
        return url
    written = written.removeprefix("/")
    if written in ("", ":memory:") or "mode=memory" in options:
        # The address may have been in a variable, and is not repeated.
        raise DestinationError(
            key, "names no file of SQLite, so the answers would go with the run", "write it like sqlite:///scores.db"
        )
    path = _ours(context, written, "-journal", "-wal", "-shm")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DestinationError(
            key, f"the folder {path.parent} cannot be made ({error.strerror or error})", "name another file"
        ) from error
    return f"{driver}:///{path}{'?' if options else ''}{options}"


def _ours(context: Context, written: str, *beside: str) -> Path:
    """The path of `written`, which no run commits, nor what the database writes `beside` it."""
    path = Path(os.path.normpath(context.project / written))
    keep_out(context.project, [path, *(path.with_name(path.name + end) for end in beside)])
    return path


def _url(written: str, key: str, connection_url: Callable[[str], str] | None) -> str:
    if written.startswith("$"):
        if not (url := named_secret(written[1:])):
            raise DestinationError(
                key, f"the environment has no variable {written[1:]}", "set it to the database's URL"
            )
        return url
    if not written.startswith(AIRFLOW):
        return written
    name = written.removeprefix(AIRFLOW)
    if connection_url is not None:
        return connection_url(name)
    variable = f"AIRFLOW_CONN_{name.upper()}"
    if not (text := named_secret(variable)):
        raise DestinationError(
            key,
            f"the environment has no variable {variable}, and only a Dag can ask Airflow for the connection {name}",
            "set it to the database's URL, or trigger the Dag",
        )
    return _of_json(text) if text.lstrip().startswith("{") else text


def _of_json(text: str) -> str:
    """A connection as Airflow writes it in JSON."""
    held = json.loads(text)
    login = ":".join(quote(str(held[name]), safe="") for name in ("login", "password") if held.get(name))
    port = f":{held['port']}" if held.get("port") else ""
    return (
        f"{held['conn_type']}://{login}{'@' if login else ''}{held.get('host') or ''}{port}/{held.get('schema') or ''}"
    )
