"""Whether files in the DVC cache and in its remote are what their names say: DVC believes its own notes of both.

A cached file that changed and kept its time and size is the same file to DVC, and a folder that was pushed once is in the remote
for ever. Nothing is trained on the first, and nothing of the second is taken for kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import DataError

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc_data.hashfile.db import HashFileDB

log = logging.getLogger(__name__)

# Questions to a remote wait for its network, each by itself.
ASKED_AT_ONCE = 16


def is_whole(cached: Path, md5: str) -> bool:
    """Whether the file is there with the bytes that its DVC hash names. One with other bytes is deleted, to be made or fetched
    again."""
    try:
        with open(cached, "rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found == md5.removesuffix(".dir"):
            return True
        cached.unlink()
    except FileNotFoundError:
        return False
    log.warning("the DVC cache's file %s had other bytes than its hash says, and was removed", md5)
    return False


def broken(repo: Repo, hashes: Iterable[str]) -> list[str]:
    """Those of `hashes` that the cache has with other bytes; their files are removed."""
    cache = repo.cache.local
    paths = {md5: Path(cache.oid_to_path(md5)) for md5 in hashes}
    return [md5 for md5, path in paths.items() if path.is_file() and not is_whole(path, md5)]


def lacking(repo: Repo, remote: HashFileDB, hashes: Sequence[str]) -> list[str]:
    """Those of `hashes` that the remote does not have, or not in the size of the cached file; one of another size is removed there.

    The remote itself is asked, and DVC's notes of it are dropped where they are wrong.
    """
    from dvc_data.hashfile.db import get_index

    cache = repo.cache.local

    def lacks(md5: str) -> bool:
        path = remote.oid_to_path(md5)
        try:
            size = remote.fs.info(path)["size"]
        except FileNotFoundError:
            return True
        cached = Path(cache.oid_to_path(md5))
        if size == (cached.stat().st_size if cached.is_file() else size):
            return False
        remote.fs.remove(path)
        log.warning("the DVC remote's file %s had %d bytes of %d, and is sent again", md5, size, cached.stat().st_size)
        return True

    with ThreadPoolExecutor(ASKED_AT_ONCE) as threads:
        found = [md5 for md5, gone in zip(hashes, threads.map(lacks, hashes), strict=True) if gone]
    if found:
        get_index(remote).clear()
    return found


def hash_of(path: Path) -> str:
    """The DVC hash of a file or folder, computed from its bytes without DVC's memory of earlier hashes."""
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db import get_odb
    from dvc_objects.fs.local import LocalFileSystem

    with tempfile.TemporaryDirectory() as empty:
        local = LocalFileSystem()
        _, _, built = build(get_odb(local, empty, hash_name="md5"), str(path), local, "md5", dry_run=True)
    return str(built.hash_info.value)


def refuse_changed(folder: Path, recorded: Mapping[str, str]) -> None:
    """Raises DataError when a file or folder, by its path below `folder`, is not what `recorded` says, whatever DVC notes of it.

    It is removed here and its files from the cache, so that the same run makes it again and takes it from nowhere.
    """
    from dvc.repo import Repo
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    for path, md5 in recorded.items():
        made = folder / path
        if not made.exists() or hash_of(made) == md5:
            continue
        with Repo(str(folder)) as repo:
            hashes = [md5]
            if md5.endswith(".dir") and repo.cache.local.exists(md5):
                hashes += [str(info.value) for _, _, info in Tree.load(repo.cache.local, HashInfo("md5", md5)) if info]
            broken(repo, hashes)
        shutil.rmtree(made) if made.is_dir() else made.unlink()
        raise DataError(path, f"has other bytes than those recorded as {md5}", "run it again: the run makes it anew")


class Kept(NamedTuple):
    """A file that the remote has, or else the cache alone, and its size in bytes."""

    md5: str
    size: int
    in_remote: bool


def kept(repo: Repo, remote: HashFileDB | None, hashes: Sequence[str]) -> list[Kept]:
    """Those of the files that the cache or the remote has, in this order; with the remote's size where both have it."""
    with ThreadPoolExecutor(ASKED_AT_ONCE) as threads:
        found = threads.map(lambda md5: _kept(repo, remote, md5), hashes)
    return [each for each in found if each is not None]


def remove(repo: Repo, remote: HashFileDB | None, hashes: Sequence[str]) -> Iterator[Kept]:
    """Removes the files from cache and remote, in this order, and gives each of those that were there when it is gone."""
    from dvc_data.hashfile.db import get_index

    there = kept(repo, remote, hashes)
    if remote is not None and there:
        get_index(remote).clear()
    for each in there:
        Path(repo.cache.local.oid_to_path(each.md5)).unlink(missing_ok=True)
        if remote is not None and each.in_remote:
            with contextlib.suppress(FileNotFoundError):
                remote.fs.remove(remote.oid_to_path(each.md5))
        yield each


def _kept(repo: Repo, remote: HashFileDB | None, md5: str) -> Kept | None:
    if remote is not None:
        with contextlib.suppress(FileNotFoundError):
            return Kept(md5, int(remote.fs.info(remote.oid_to_path(md5))["size"]), True)
    cached = Path(repo.cache.local.oid_to_path(md5))
    return Kept(md5, cached.stat().st_size, False) if cached.is_file() else None
