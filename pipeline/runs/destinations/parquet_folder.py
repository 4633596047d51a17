"""A folder with one folder for each interval, `model=MODEL/interval=START--END`, as readers of Parquet data sets know them.

An interval's folder is made aside and exchanged with the old one in one call of the system (renameat2(2), RENAME_EXCHANGE): a reader
finds the old files or the new ones, whenever a process is killed. Linux's own file systems can do it; where one cannot, as NFS, the
files are replaced one by one, the scores last.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import shutil
from pathlib import Path

from pipeline.runs.destinations.base import REFUSED, SCORES, DestinationError
from pipeline.runs.scoring_interval import Interval

AT_FDCWD, RENAME_EXCHANGE = -100, 2
CANNOT = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)

log = logging.getLogger(__name__)


class ParquetFolder:
    """`folder` and `replace` raise DestinationError where the folder cannot be written; `key` is the setting that names
    it."""

    def __init__(self, root: Path, model: str, key: str) -> None:
        self._root, self._model, self._key = root, model, key

    def folder(self, interval: Interval) -> Path:
        """Beside the destination, where no reader looks, or in it when it is a disk of its own."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            beside = self._root.with_name(f".{self._root.name}.parts")
            same_disk = self._root.stat().st_dev == self._root.parent.stat().st_dev
            parts = beside if same_disk and os.access(self._root.parent, os.W_OK) else self._root / ".parts"
            parts.mkdir(exist_ok=True)
        except OSError as error:
            raise self._failed(error) from error
        return parts / self._model / interval.name

    def replace(self, interval: Interval, files: Path) -> None:
        target = self._root / f"model={self._model}" / f"interval={interval.name}"
        try:
            for path in files.iterdir():
                _sync(path)
            _sync(files)
            target.parent.mkdir(exist_ok=True)
            if target.exists():
                _exchange(files, target)
            else:
                files.rename(target)
            _sync(target.parent)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> DestinationError:
        return DestinationError(
            self._key, f"{self._root} cannot be written ({error.strerror or error})", "check the folder"
        )


def _exchange(one: Path, other: Path) -> None:
    renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    if renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return
    code = ctypes.get_errno()
    if code not in CANNOT:
        raise OSError(code, os.strerror(code), str(other))
    log.warning("%s: its file system cannot exchange two folders; the files are replaced one by one", other)
    for name in (REFUSED, SCORES):
        os.replace(one / name, other / name)
    shutil.rmtree(one)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
