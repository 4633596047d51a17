"""The section `scoring` of a model's block: which rows its Dag `score__MODEL` scores, how often, and where the answers go."""

from __future__ import annotations

import os
import re
from pathlib import PurePath
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, model_validator

from pipeline.settings.cron import Cron
from pipeline.settings.section import Section

# Columns that scoring writes beside the key and the event time.
OWN_COLUMNS = ("model", "interval_start", "interval_end", "version", "breaches", "row")
BOUNDS = ("$start", "$end")
TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,50}(\.[A-Za-z_][A-Za-z0-9_]{0,50})?")
VARIABLE = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
CONNECTION = re.compile(r"airflow:[A-Za-z0-9_.-]+")
EXAMPLE = "{parquet: scores}, {duckdb: scores.db, table: churn} or {sql: $SCORES_URL, table: churn}"


def _on_disk(path: str) -> str:
    if not path.strip():
        raise ValueError("is empty; name a path, which starts at the project's folder")
    if "://" in path:
        raise ValueError(f"{path}: must be on a disk; for a database give sql and table")
    if path.startswith("~"):
        raise ValueError(f"{path}: ~ is nobody's home here, for a run may have another; write the path in full")
    return path


def _folder(path: str) -> str:
    """One of its own: beside it stands what is not finished, and what is in it no run commits."""
    if set(PurePath(os.path.normpath(path)).parts) <= {"..", "/"}:
        raise ValueError(f"{path}: is the project's folder, or one around it; name a folder for the answers, as scores")
    return _on_disk(path)


def _table(name: str) -> str:
    if not TABLE.fullmatch(name):
        raise ValueError(f"must be a table's name of letters, digits and _, like scores or public.scores; got {name!r}")
    return name


def _url(url: str) -> str:
    """A database's address, or where it is kept. params.yaml is in git, and every run keeps a copy of it: it may hold no password."""
    if VARIABLE.fullmatch(url) or CONNECTION.fullmatch(url):
        return url
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        raise ValueError("is no URL; write it like postgresql://scores@db/scores") from None
    if "://" not in url or not parts.scheme:
        raise ValueError(
            f"must be a URL like postgresql://scores@db/scores, $NAME for the environment's variable NAME, or airflow:ID for a "
            f"connection of Airflow; got {url!r}"
        )
    if password or "password=" in parts.query:
        raise ValueError(
            "has a password, and params.yaml is in git: write $NAME, the environment's variable, or airflow:ID"
        )
    return url


class Destination(Section):
    """One of a folder of Parquet files, a DuckDB file, and a database by its URL; the last two have a table."""

    parquet: Annotated[str, AfterValidator(_folder)] | None = None
    duckdb: Annotated[str, AfterValidator(_on_disk)] | None = None
    sql: Annotated[str, AfterValidator(_url)] | None = None
    table: Annotated[str, AfterValidator(_table)] | None = None

    @model_validator(mode="after")
    def one_of_three(self) -> Destination:
        if sum(given is not None for given in (self.parquet, self.duckdb, self.sql)) != 1:
            raise ValueError(f"give one of parquet, duckdb and sql: {EXAMPLE}")
        if (self.parquet is None) != (self.table is not None):
            raise ValueError(f"parquet has no table, duckdb and sql have one: {EXAMPLE}")
        return self

    @property
    def kind(self) -> Literal["parquet", "duckdb", "sql"]:
        return "parquet" if self.parquet is not None else "duckdb" if self.duckdb is not None else "sql"

    @property
    def address(self) -> str:
        """Where the answers go, for people. It holds no secret."""
        where = self.parquet or self.duckdb or self.sql or ""
        return f"{where} table {self.table}" if self.table else where


class Scoring(Section):
    """`query` is DuckDB SQL with $start or $end, or both; without it the rows are those of the model's source. `champion` is which version
    scores an interval that is scored late."""

    cron: Cron
    query: str | None = None
    destination: Destination
    champion: Literal["of_now", "of_interval"] = "of_now"

    @model_validator(mode="after")
    def query_has_the_interval(self) -> Scoring:
        if self.query is not None and not any(bound in self.query for bound in BOUNDS):
            raise ValueError(
                "query: must use $start or $end, the interval's bounds; without them every interval is the same"
            )
        return self
