"""MLflow's store in a home that was moved: it names each artifact by its whole path, in tables that no call of MLflow changes.

Without this MLflow would look for old artifacts in the old folder, and write new ones there.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

# Where MLflow 3 keeps paths of artifacts.
COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
ARTIFACTS = "/mlflow/artifacts"


def follow(database: Path, root: Path) -> list[str]:
    """Lets the store name its artifacts below `root`, which ends with ARTIFACTS; returns the folders that it named before."""
    new = str(root)
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "experiments" not in tables:
            return []
        named = connection.execute("SELECT artifact_location FROM experiments WHERE artifact_location LIKE '/%'")
        before = {path[: path.rindex(f"{ARTIFACTS}/")] + ARTIFACTS for (path,) in named if f"{ARTIFACTS}/" in path}
        moved = sorted(before - {new})
        for old in moved:
            for table, column in COLUMNS:
                if table in tables:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                        (new, len(old) + 1, len(old) + 1, f"{old}/"),
                    )
    return moved
