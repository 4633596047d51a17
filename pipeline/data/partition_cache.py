"""Partitions that have landed: a day's rows, written once and known again by what is in them.

DuckDB folds the rows of each day into a fingerprint. A day whose fingerprint has landed before is linked
from the DVC cache, and DVC is told its hash, so that nothing of it is written, copied or hashed again; any
other day is written as a new file. The index says which fingerprint is which file. It is no more than a
memory: without it, or without the cache, the same rows give the same files again.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dvc.repo import Repo

SUFFIX = ".parquet"


@dataclass(frozen=True)
class Fingerprint:
    """What one day holds: its rows, and two folds of a 64-bit hash of each row, whatever their order."""

    rows: int
    folded: str


@contextmanager
def repository(folder: Path) -> Iterator[Repo]:
    """The DVC repository that `folder` is in."""
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        yield repo


class Index:
    """Which fingerprint, made by which recipe, is which file: an SQLite file that runs side by side share."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, timeout=60, isolation_level="IMMEDIATE")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS landed (recipe TEXT, day TEXT, rows INTEGER, folded TEXT, md5 TEXT, size INTEGER,"
            " PRIMARY KEY (recipe, day, rows, folded)) WITHOUT ROWID"
        )

    def known(self, recipe: str, days: dict[str, Fingerprint]) -> dict[str, tuple[str, int]]:
        """(md5, size in bytes) of each of `days` that has landed with this very content."""
        found = self._connection.execute("SELECT day, rows, folded, md5, size FROM landed WHERE recipe = ?", [recipe])
        return {
            day: (md5, size) for day, rows, folded, md5, size in found if days.get(day) == Fingerprint(rows, folded)
        }

    def add(self, recipe: str, landed: dict[str, tuple[Fingerprint, str, int]]) -> None:
        """Remembers days: (fingerprint, md5, size in bytes) each."""
        rows = [(recipe, day, f.rows, f.folded, md5, size) for day, (f, md5, size) in landed.items()]
        with self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO landed VALUES (?, ?, ?, ?, ?, ?)", rows)

    def close(self) -> None:
        self._connection.close()


def link(repo: Repo, folder: Path, files: dict[str, tuple[str, int]]) -> set[str]:
    """Empties `folder` and links into it the files, day to (md5, size), that the DVC cache has; returns the days linked."""
    from dvc_data.hashfile.checkout import checkout
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta
    from dvc_data.hashfile.tree import Tree
    from dvc_objects.fs.local import localfs

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    cache = repo.cache.local
    held = {day: md5 for day, (md5, size) in files.items() if _whole(Path(cache.oid_to_path(md5)), size)}
    if held:
        tree = Tree()
        for day, md5 in held.items():
            tree.add((day + SUFFIX,), Meta(), HashInfo("md5", md5))
        tree.digest()
        checkout(str(folder), localfs, tree, cache, force=True, state=repo.state)
    return set(held)


def _whole(cached: Path, size: int) -> bool:
    """True when the cache has the file. One that was cut short, by a full disk or a crash, goes: it is written again."""
    try:
        if cached.stat().st_size == size:
            return True
        cached.unlink()
    except FileNotFoundError:
        pass
    return False


def hashed(repo: Repo, file: Path) -> tuple[str, int]:
    """(md5, size in bytes) of a file, kept in DVC's state so that DVC does not hash it again."""
    from dvc_data.hashfile.hash import hash_file
    from dvc_objects.fs.local import localfs

    meta, found = hash_file(str(file), localfs, "md5", state=repo.state)
    return str(found.value), int(meta.size or 0)
