"""The DVC remote: where a snapshot goes before anything is trained on it, and where a rebuild fetches it from.

Which remote is for the project's own DVC configuration to say: a folder by default, S3 and the like by URL.
Hashes are DVC's: md5, with `.dir` at the end for a folder.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pipeline.errors import DataError, RemoteError

if TYPE_CHECKING:
    from dvc.repo import Repo


@dataclass(frozen=True)
class Pushed:
    """What a push moved: `files` and `size` (bytes) that the remote did not have; `url` is None without a remote."""

    files: int
    size: int
    url: str | None


def push(folder: Path, hashes: Iterable[str]) -> Pushed:
    """Copies to the remote what it lacks of `hashes`, folders with all their files. Raises DataError."""
    with _repository(folder) as repo:
        url = _url(repo)
        if url is None:
            return Pushed(0, 0, None)
        moved, failed = _transferred(repo, "push", hashes)
        if failed:
            raise RemoteError(f"remote {url}", f"took {len(moved)} files and failed on {len(failed)}", "is there room?")
        paths = [repo.cache.local.oid_to_path(one.value) for one in moved]
        return Pushed(len(moved), sum(os.stat(path).st_size for path in paths), url)


def fetch(folder: Path, outs: dict[str, str]) -> None:
    """Brings `outs` (path to hash) from the remote into the cache and the folder. Raises DataError when they are not all there."""
    from dvc_data.hashfile.checkout import checkout
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree
    from dvc_objects.fs.local import localfs

    with _repository(folder) as repo:
        url, cache = _url(repo), repo.cache.local
        if url is None:
            raise DataError("remote", "there is none", "name one with `dvc remote add -d store URL`")
        _, failed = _transferred(repo, "pull", outs.values())
        needed = {one for md5 in outs.values() for one in (md5, *_files_of(repo, md5))}
        gone = needed - set(cache.oids_exist(sorted(needed)))
        if failed or gone:
            raise DataError(
                f"remote {url}",
                f"lacks {max(len(gone), 1)} of {len(needed)} files of this version",
                "was it pushed from here?",
            )
        for path, md5 in outs.items():
            found = HashInfo("md5", md5)
            target = Tree.load(cache, found) if found.isdir else cache.get(md5)
            checkout(str(folder / path), localfs, target, cache, force=True, state=repo.state)


def partitions(folder: Path, data_version: str) -> dict[str, str]:
    """The files of a data version, name to md5, as the cache or else the remote lists them. Raises DataError."""
    with _repository(folder) as repo:
        return _files(repo, data_version)


def listings(folder: Path, data_versions: Iterable[str]) -> dict[str, dict[str, str] | None]:
    """`partitions` of many data versions; None for one that is neither in the cache nor in the remote.

    Raises DataError when the remote would have to be asked and does not answer: that is no news of any version.
    """
    with _repository(folder) as repo:
        return {version: _listed(repo, version) for version in data_versions}


@contextmanager
def cache(folder: Path) -> Iterator[Callable[[str], Path | None]]:
    """A function from a file's hash to where the cache keeps it, fetched from the remote where it is only there; None when
    neither has it."""

    def kept(md5: str) -> Path | None:
        path = Path(repo.cache.local.oid_to_path(md5))
        if not path.is_file() and _url(repo) is not None:
            _transferred(repo, "pull", [md5])
        return path if path.is_file() else None

    with _repository(folder) as repo:
        yield kept


def hash_of(path: Path) -> str:
    """The DVC hash of a file or folder, from its bytes and nothing remembered."""
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db import get_odb
    from dvc_objects.fs.local import LocalFileSystem

    with tempfile.TemporaryDirectory() as nowhere:
        local = LocalFileSystem()
        _, _, found = build(get_odb(local, nowhere, hash_name="md5"), str(path), local, "md5", dry_run=True)
    return str(found.hash_info.value)


def _files_of(repo: Repo, md5: str) -> list[str]:
    return list(_files(repo, md5).values()) if md5.endswith(".dir") else []


def _files(repo: Repo, md5: str) -> dict[str, str]:
    listed = _listed(repo, md5)
    if listed is None:
        raise DataError(f"data version {md5}", "is neither in the DVC cache nor in the remote", "see `dvc remote list`")
    return listed


def _listed(repo: Repo, md5: str) -> dict[str, str] | None:
    """The files of a folder's hash, name to md5, as the cache or else the remote lists them; None when neither does.

    Raises DataError in one line when it cannot be read, whatever the remote's own client raises.
    """
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    cache = repo.cache.local
    at_hand = cache.exists(md5) or _url(repo) is None
    try:
        odb = cache if at_hand else repo.cloud.get_remote_odb()
        return {"/".join(key): str(found.value) for key, _, found in Tree.load(odb, HashInfo("md5", md5)) if found}
    except FileNotFoundError:
        return None
    except Exception as error:
        where = "the DVC cache" if at_hand else f"remote {_url(repo)}"
        raise RemoteError(
            where,
            f"the list of data version {md5} cannot be read: {_first_line(error)}",
            "can it be reached, and with which keys?",
        ) from error


def _transferred(repo: Repo, way: str, hashes: Iterable[str]) -> tuple[set, set]:
    """(moved, failed) of a push or a pull, folders with their files.

    Raises DataError in one line, whatever the remote's own client raises.
    """
    from dvc_data.hashfile.hash_info import HashInfo

    try:
        wanted = set(hashes)
        wanted |= {file for md5 in tuple(wanted) for file in _files_of(repo, md5)}
        return getattr(repo.cloud, way)({HashInfo("md5", md5) for md5 in wanted})
    except DataError:
        raise
    except Exception as error:
        raise RemoteError(
            f"remote {_url(repo)}", f"{way}: {_first_line(error)}", "can it be reached, and with which keys?"
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _url(repo: Repo) -> str | None:
    name = repo.config["core"].get("remote")
    return repo.config["remote"][name]["url"] if name else None


@contextmanager
def _repository(folder: Path) -> Iterator[Repo]:
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        yield repo


def day_of(file: str) -> str:
    """The day that a partition's file is for."""
    return PurePosixPath(file).stem
