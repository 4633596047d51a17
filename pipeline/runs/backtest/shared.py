"""What a backtest made, where workers share no disk: each training window's versions go to the DVC remote as one pack, and the worker that goes
on, in this run or next month, takes them from there. The ledger has the packs' hashes."""

from __future__ import annotations

import io
import logging
import tarfile
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path, PurePosixPath

from pipeline.context import Context
from pipeline.errors import DataError
from pipeline.ledger.backtest_events import BacktestKept
from pipeline.ledger.store import Entry
from pipeline.runs.backtest.versions import KEPT_DAYS
from pipeline.settings.models import time_of
from pipeline.workspaces import dvc_remote

log = logging.getLogger(__name__)

RECORD, MODEL = "record.json", "model.skops"


def share(context: Context, name: str, window: str, folder: Path, since: float) -> None:
    """Keeps the versions in `folder` that were read or made since that time (POSIX, s), in place of the window's earlier pack. Raises DataError
    without a remote."""
    used = sorted(record.parent for record in folder.glob(f"*/{RECORD}") if record.stat().st_mtime >= since)
    before = _packs(context, name)
    with tempfile.TemporaryDirectory(prefix="perennial-backtest-") as aside:
        file = Path(aside) / "versions.tar"
        _pack(used, file)
        size = file.stat().st_size
        pack, _ = dvc_remote.keep(context.project, file)
    event = BacktestKept(window=window, pack=pack, versions=len(used), size_bytes=size)
    context.ledger.append(event, name)
    kept = {entry.event.pack for entry in _packs(context, name)}
    if gone := {entry.event.pack for entry in before} - kept:
        for removed in dvc_remote.remove(context.project, gone):
            log.info("%s: an earlier pack of versions is removed: %s", name, removed)


def take(context: Context, name: str, folder: Path) -> None:
    """Brings what other workers made into `folder`. A pack that is gone is told: its versions are made again."""
    with dvc_remote.cached_files(context.project) as cached_file:
        for entry in _packs(context, name):
            file = cached_file(entry.event.pack)
            if file is None:
                log.warning("%s: the DVC remote lacks the pack %s: its versions are made again", name, entry.event.pack)
                continue
            _unpack(file, folder)


def _packs(context: Context, name: str) -> list[Entry[BacktestKept]]:
    """The newest of each window, as long as they are used: the window `all` has other days each month."""
    newest = {entry.event.window: entry for entry in context.ledger.events(BacktestKept, model=name)}
    oldest = context.clock() - timedelta(days=KEPT_DAYS)
    return [entry for entry in newest.values() if time_of(entry.at) >= oldest]


def _pack(versions: list[Path], file: Path) -> None:
    """The same versions make the same bytes."""
    with tarfile.open(file, "w") as packed:
        for version in versions:
            for part in (MODEL, RECORD):
                if (version / part).is_file():
                    info = tarfile.TarInfo(f"{version.name}/{part}")
                    content = (version / part).read_bytes()
                    info.size = len(content)
                    packed.addfile(info, io.BytesIO(content))


def _unpack(file: Path, folder: Path) -> None:
    """Each version that `folder` lacks, or knows fewer windows of. The record names the digest of its model, so it is written last."""
    for version, parts in _versions(file):
        record = folder / version / RECORD
        if RECORD not in parts or (record.is_file() and record.stat().st_size >= len(parts[RECORD])):
            continue
        record.parent.mkdir(parents=True, exist_ok=True)
        for part in (MODEL, RECORD):
            if part in parts:
                aside = record.with_name(f".{part}.taken")
                aside.write_bytes(parts[part])
                aside.replace(record.with_name(part))


def _versions(file: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(a version's folder name, its files by name). Raises DataError for a pack that is none of ours."""
    found: dict[str, dict[str, bytes]] = {}
    with tarfile.open(file) as packed:
        for info in packed:
            version, _, part = info.name.partition("/")
            content = (
                packed.extractfile(info) if part in (RECORD, MODEL) and PurePosixPath(version).name == version else None
            )
            if content is None or version in ("", ".", ".."):
                raise DataError(f"pack {file.name}", f"has {info.name!r}", "remove it from the DVC remote")
            if found and version not in found:
                yield found.popitem()
            found.setdefault(version, {})[part] = content.read()
    yield from found.items()
