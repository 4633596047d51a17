"""The DVC remote: where a snapshot goes before anything is trained on it, and where a rebuild fetches it from.

The project's own DVC configuration names the remote: a folder by default, S3 and the like by URL.
Hashes are DVC's: md5, with `.dir` at the end for a folder.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from pipeline.errors import DataError, RemoteError
from pipeline.workspaces import dvc_config, whole_files

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc_data.hashfile.db import HashFileDB


@dataclass(frozen=True)
class Pushed:
    """What a push copied: the number of `files` that the remote lacked and their `size` in bytes. `url` is None without a
    remote."""

    files: int
    size: int
    url: str | None


def push(folder: Path, hashes: Iterable[str]) -> Pushed:
    """Copies to the remote what it lacks of `hashes`, folders with all their files. Raises DataError."""
    with _repository(folder) as repo:
        url = _url(repo)
        if url is None:
            return Pushed(0, 0, None)
        needed = _with_their_files(repo, hashes)
        lacking = _lacking(repo, needed)
        moved, failed = _transferred(repo, "push", lacking)
        if failed:
            raise RemoteError(
                f"remote {url}", f"{len(failed)} files failed, {len(moved)} were pushed", "check its free space"
            )
        if lost := _lacking(repo, lacking):
            raise RemoteError(
                f"remote {url}", f"lacks {len(lost)} of the {len(moved)} files that were pushed", "check its free space"
            )
        paths = [repo.cache.local.oid_to_path(pushed.value) for pushed in moved]
        return Pushed(len(moved), sum(os.stat(path).st_size for path in paths), url)


def keep(folder: Path, file: Path) -> tuple[str, int]:
    """Puts a copy of a file into the cache and the remote. Returns its hash, and how many bytes went to the remote, which may have it. Raises DataError without a remote, or when the push fails."""
    from dvc_objects.fs.local import localfs

    md5 = whole_files.hash_of(file)
    with _repository(folder) as repo:
        repo.cache.local.add(str(file), localfs, md5)
    pushed = push(folder, [md5])
    if pushed.url is None:
        raise DataError(
            "DVC remote", "is not configured, and workers share no disk", "add one: `dvc remote add -d store URL`"
        )
    return md5, pushed.size


def fetch(folder: Path, outs: dict[str, str]) -> int:
    """Copies `outs` (path to hash) from the remote into the cache, and links them into the folder; returns the bytes that were copied.

    Raises DataError when a file is missing.
    """
    from dvc_data.hashfile.checkout import checkout
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree
    from dvc_objects.fs.local import localfs

    with _repository(folder) as repo:
        url, cache = _url(repo), repo.cache.local
        if url is None:
            raise DataError("DVC remote", "the project has none", "add one with `dvc remote add -d store URL`")
        moved, failed = _transferred(repo, "pull", outs.values())
        needed = set(_with_their_files(repo, outs.values()))
        if flipped := whole_files.broken(repo, needed):
            again, failed = _transferred(repo, "pull", flipped)
            moved |= again
            if other := whole_files.broken(repo, flipped):
                raise DataError(
                    f"remote {url}",
                    f"{len(other)} of {len(needed)} files have other bytes than their hash says, the first {other[0]}",
                    "put back these files of the remote from a backup",
                )
        missing = needed - set(cache.oids_exist(sorted(needed)))
        if failed or missing:
            raise DataError(
                f"remote {url}",
                f"lacks {max(len(missing), 1)} of {len(needed)} files of this version",
                "check that the run that made it pushed to this remote",
            )
        for path, md5 in outs.items():
            hash_info = HashInfo("md5", md5)
            target = Tree.load(cache, hash_info) if hash_info.isdir else cache.get(md5)
            checkout(str(folder / path), localfs, target, cache, force=True, state=repo.state)
        return sum(os.stat(cache.oid_to_path(pulled.value)).st_size for pulled in moved)


def partitions(folder: Path, data_version: str) -> dict[str, str]:
    """The partitions of a data version, file name to md5, from the cache or else from the remote. Raises DataError."""
    files = _in_cache(folder, [data_version], "").get(data_version)
    if files is None:
        with _repository(folder) as repo:
            files = _files(repo, data_version)
    # Beside them lies their schema.
    return {name: md5 for name, md5 in files.items() if name.endswith(".parquet")}


def listings(folder: Path, data_versions: Iterable[str], only: str = "") -> dict[str, dict[str, str] | None]:
    """The files of many data versions, name to md5, or `only` the one with that name; None for a version that neither the cache nor the
    remote has.

    Raises RemoteError when the remote is needed and does not answer: nothing is known of the version then.
    """
    versions = list(data_versions)
    found = _in_cache(folder, versions, only)
    if len(found) < len(versions):
        with _repository(folder) as repo:
            # Of thousands of versions most of the time would go by asking DVC where its remote is.
            remote = functools.cache(repo.cloud.get_remote_odb)
            found |= {version: _listed(repo, version, remote) for version in versions if version not in found}
    return {version: found[version] for version in versions}


def _in_cache(folder: Path, versions: Iterable[str], only: str) -> dict[str, dict[str, str] | None]:
    """Of the lists those that lie where the project's DVC has its cache, without DVC, which takes half a second to start. What is not
    found there, or cannot be read, DVC is asked for."""
    files = dvc_config.cache_folder(folder) / "files" / "md5"
    found: dict[str, dict[str, str] | None] = {}
    for version in versions:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found[version] = _list_in(files / version[:2] / version[2:], only)
    return found


def bring(folder: Path, hashes: Iterable[str]) -> None:
    """Copies to the cache what it lacks of `hashes` and the remote has. Raises RemoteError."""
    with _repository(folder) as repo:
        there = set(repo.cache.local.oids_exist(wanted := sorted({*hashes})))
        if lacking := [md5 for md5 in wanted if md5 not in there]:
            _transferred(repo, "pull", lacking)


@contextmanager
def cached_files(folder: Path) -> Iterator[Callable[[str], Path | None]]:
    """A function from a file's md5 to its path in the cache. It fetches a file that only the remote has, and returns None when
    neither has it."""

    def cached_file(md5: str) -> Path | None:
        path = Path(repo.cache.local.oid_to_path(md5))
        if not path.is_file() and _url(repo) is not None:
            _transferred(repo, "pull", [md5])
        return path if path.is_file() else None

    with _repository(folder) as repo:
        yield cached_file


def remove(folder: Path, hashes: Iterable[str]) -> Iterator[whole_files.Kept]:
    """Removes files from the cache and the remote; gives each of those that were there when it is gone.

    Folders last: until its own hash is gone, a folder's files are known. Raises RemoteError.
    """
    hashes = list(hashes)
    if not hashes:
        return
    with _repository(folder) as repo, _reported(repo, "a file could not be removed"):
        yield from whole_files.remove(repo, _remote(repo), sorted(hashes, key=lambda md5: (md5.endswith(".dir"), md5)))


def kept(folder: Path, hashes: Iterable[str]) -> list[whole_files.Kept]:
    """Those of the files that the cache or the remote has. Raises RemoteError."""
    hashes = list(hashes)
    if not hashes:
        return []
    with _repository(folder) as repo, _reported(repo, "does not say what it has"):
        return whole_files.kept(repo, _remote(repo), hashes)


def _with_their_files(repo: Repo, hashes: Iterable[str]) -> list[str]:
    """`hashes` and the files of those that are folders."""
    return sorted({needed for md5 in hashes for needed in (md5, *_files_of(repo, md5))})


def _lacking(repo: Repo, hashes: list[str]) -> list[str]:
    """Those of `hashes` that the remote lacks, asked of itself. Raises RemoteError, whatever its own client raises."""
    with _reported(repo, "does not say what it has"):
        return whole_files.lacking(repo, repo.cloud.get_remote_odb(), hashes)


@contextmanager
def _reported(repo: Repo, what: str) -> Iterator[None]:
    """Raises RemoteError for whatever the remote's own client raises."""
    try:
        yield
    except Exception as error:
        raise RemoteError(
            f"remote {_url(repo)}", f"{what}: {_first_line(error)}", "check its address and its keys"
        ) from error


def _remote(repo: Repo) -> HashFileDB | None:
    return repo.cloud.get_remote_odb() if _url(repo) is not None else None


def _files_of(repo: Repo, md5: str) -> list[str]:
    return list(_files(repo, md5).values()) if md5.endswith(".dir") else []


def _files(repo: Repo, md5: str) -> dict[str, str]:
    listed = _listed(repo, md5)
    if listed is None:
        raise DataError(
            f"data version {md5}",
            "is neither in the DVC cache nor in the remote",
            "check the remote with `dvc remote list`",
        )
    return listed


def _listed(repo: Repo, md5: str, remote: Callable[[], HashFileDB] | None = None) -> dict[str, str] | None:
    """The files of a folder's hash, name to md5, from the cache or else from the `remote`; None when neither has it.

    Raises RemoteError when the list cannot be read, whatever the remote's own client raises.
    """
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    cache = repo.cache.local
    in_cache = cache.exists(md5) or _url(repo) is None
    try:
        if in_cache:
            return _list_in(Path(cache.oid_to_path(md5)))
        odb = (remote or repo.cloud.get_remote_odb)()
        return {"/".join(key): str(info.value) for key, _, info in Tree.load(odb, HashInfo("md5", md5)) if info}
    except FileNotFoundError:
        return None
    except Exception as error:
        raise RemoteError(
            "the DVC cache" if in_cache else f"remote {_url(repo)}",
            f"the list of data version {md5} cannot be read: {_first_line(error)}",
            "check its address and its keys",
        ) from error


def _list_in(file: Path, only: str = "") -> dict[str, str]:
    """As DVC's Tree.load reads it, which makes objects of each file: of thousands of versions that takes seconds."""
    text = file.read_text(encoding="utf-8")
    if only and only not in text:
        return {}
    listed = {str(each["relpath"]): str(each["md5"]) for each in json.loads(text)}
    return {name: md5 for name, md5 in listed.items() if name == only} if only else listed


def _transferred(repo: Repo, direction: Literal["push", "pull"], hashes: Iterable[str]) -> tuple[set, set]:
    """(moved, failed) of a push or a pull, folders with their files.

    Raises DataError; it is a RemoteError whatever the remote's own client raises.
    """
    from dvc_data.hashfile.hash_info import HashInfo

    try:
        return getattr(repo.cloud, direction)({HashInfo("md5", md5) for md5 in _with_their_files(repo, hashes)})
    except DataError:
        raise
    except Exception as error:
        raise RemoteError(
            f"remote {_url(repo)}", f"{direction} failed: {_first_line(error)}", "check its address and its keys"
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
    """The day of a partition, from its file's name."""
    return PurePosixPath(file).stem
