"""The files of partitions that have landed, found again by a fingerprint of a day's rows.

DuckDB folds the rows of each day into a fingerprint. A day whose fingerprint is in the index is linked from the DVC cache, and
DVC gets its hash, so that nothing is written or copied again. Any other day is written as a new file. The index may be
deleted: without it, or without the cache, the same rows give the same files again.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.workspaces.whole_files import is_whole

if TYPE_CHECKING:
    from dvc.repo import Repo

SUFFIX = ".parquet"


@dataclass(frozen=True)
class Fingerprint:
    """The content of one day: the number of rows, and two folds of the 64-bit hashes of its rows, in any order of rows."""

    rows: int
    folded: str


@contextmanager
def repository(folder: Path) -> Iterator[Repo]:
    """The DVC repository that `folder` is in."""
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        yield repo


class Index:
    """From a recipe, a day and its fingerprint to a file: an SQLite database that concurrent runs share.

    A recipe identifies everything but the rows that decides the bytes of a file.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, timeout=60, isolation_level="IMMEDIATE")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS landed (recipe TEXT, day TEXT, rows INTEGER, folded TEXT, md5 TEXT, size INTEGER,"
            " PRIMARY KEY (recipe, day, rows, folded)) WITHOUT ROWID"
        )

    def known(self, recipe: str, days: dict[str, Fingerprint]) -> dict[str, tuple[str, int]]:
        """(md5, size in bytes) of each of `days` that has landed with exactly this content."""
        landed = self._connection.execute("SELECT day, rows, folded, md5, size FROM landed WHERE recipe = ?", [recipe])
        return {
            day: (md5, size) for day, rows, folded, md5, size in landed if days.get(day) == Fingerprint(rows, folded)
        }

    def add(self, recipe: str, landed: dict[str, tuple[Fingerprint, str, int]]) -> None:
        """Adds days, each with its (fingerprint, md5, size in bytes)."""
        rows = [(recipe, day, f.rows, f.folded, md5, size) for day, (f, md5, size) in landed.items()]
        with self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO landed VALUES (?, ?, ?, ?, ?, ?)", rows)

    def close(self) -> None:
        self._connection.close()


def link_cached(repo: Repo, folder: Path, files: dict[str, tuple[str, int]]) -> set[str]:
    """Empties `folder` and links into it those of `files`, day to (md5, size in bytes), that the DVC cache has whole.

    Each is read once for that: a full disk or a crash cuts a file short, and a disk may turn a bit.

    Returns the days that were linked.
    """
    from dvc_data.hashfile.checkout import checkout
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta
    from dvc_data.hashfile.tree import Tree
    from dvc_objects.fs.local import localfs

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    cache = repo.cache.local
    cached = {day: md5 for day, (md5, _) in files.items() if is_whole(Path(cache.oid_to_path(md5)), md5)}
    if cached:
        tree = Tree()
        for day, md5 in cached.items():
            tree.add((day + SUFFIX,), Meta(), HashInfo("md5", md5))
        tree.digest()
        checkout(str(folder), localfs, tree, cache, force=True, state=repo.state)
    return set(cached)


def md5_and_size(repo: Repo, file: Path) -> tuple[str, int]:
    """(md5, size in bytes) of a file. DVC's state keeps them, so that DVC does not hash it again."""
    from dvc_data.hashfile.hash import hash_file
    from dvc_objects.fs.local import localfs

    meta, hash_info = hash_file(str(file), localfs, "md5", state=repo.state)
    return str(hash_info.value), int(meta.size or 0)
