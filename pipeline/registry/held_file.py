"""MLflow's own store in a file, read as the SQLite database that it is: MLflow takes more than a second to import, and asks for each model by
itself.

Nothing is written. MLflow 3 has these tables and columns; a store of another form says so. The keys and indexes of what is registered begin
with the workspace: without it, each question about one version would read the rows of all.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.errors import RegistryAwayError

# What MLflow marks a version with that was deleted.
GONE = "Deleted_Internal"
LIMIT_S = 2.0
# Where MLflow's client reads and writes that is told of no other workspace.
HERE = "workspace = 'default'"


@dataclass(frozen=True)
class Database:
    """A store in the SQLite file `file`, which is there; a writer is waited for so long, in seconds."""

    file: Path
    wait_s: float = LIMIT_S

    def aliases(self, name: str) -> Mapping[str, str] | None:
        if not self.rows(f"SELECT 1 FROM registered_models WHERE {HERE} AND name = ?", name):
            return None
        rows = self.rows(f"SELECT alias, version FROM registered_model_aliases WHERE {HERE} AND name = ?", name)
        return {alias: str(version) for alias, version in rows}

    def version(self, name: str, version: str) -> tuple[Mapping[str, str], str] | None:
        of = f"FROM model_versions WHERE {HERE} AND name = ? AND version = ? AND current_stage != ?"
        found = self.rows(f"SELECT run_id {of}", name, version, GONE)
        if not found:
            return None
        of = f"FROM model_version_tags WHERE {HERE} AND name = ? AND version = ?"
        tags = self.rows(f"SELECT key, value {of}", name, version)
        return dict(tags), found[0][0] or ""

    def run_state(self, run: str) -> str | None:
        found = self.rows("SELECT lifecycle_stage FROM runs WHERE run_uuid = ?", run)
        return found[0][0] if found else None

    def experiment(self, name: str) -> tuple[str, str] | None:
        found = self.rows(f"SELECT experiment_id, lifecycle_stage FROM experiments WHERE {HERE} AND name = ?", name)
        return (str(found[0][0]), found[0][1]) if found else None

    @cached_property
    def _connection(self) -> sqlite3.Connection:
        """One for all questions: to open one, SQLite reads all that the store is made of. It may write, as SQLite does where a writer was
        killed: it takes back what that one left half done."""
        return sqlite3.connect(f"{self.file.absolute().as_uri()}?mode=rw", uri=True, timeout=self.wait_s)

    @property
    def state(self) -> int:
        """Another number once another connection has written. Raises RegistryAwayError."""
        return int(self.rows("PRAGMA data_version")[0][0])

    def rows(self, query: str, *values: str | int) -> list[Any]:
        """Raises RegistryAwayError where the file is no such store, or another process holds it."""
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise RegistryAwayError(
                f"mlflow {self.file}", f"its store cannot be read ({error})", "look at MLflow's log"
            ) from error
