"""The bytes that lie outside the DVC remote, by model and place, from a daily look at the disk into the ledger.

A model's own folders are its own; what all models have together (the ledger, DVC's cache, the services' files) is shared evenly. A file with
several names, as DVC links its cache into workspaces, counts once. The DVC remote is left out: the ledger has what was pushed there.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from configobj import ConfigObj, ConfigObjError

from pipeline.errors import PerennialError
from pipeline.ledger.store import Ledger
from pipeline.ledger.times import ms_of
from pipeline.ledger.usage_events import BytesStored

log = logging.getLogger(__name__)

# The first look comes so long after the service's start, and then one so often.
FIRST_S, EVERY_S = 60.0, 24 * 3600.0
# After a look that came to nothing, such as one before MLflow is up.
AGAIN_S = 60.0
# A look is noted where some place changed by so much, or the last note is so old.
CHANGED, OLD_S = 10 * 10**6, 7 * 24 * 3600.0

# Folders of the home with one folder a model, or one file that is named after it.
OF_MODELS: Mapping[str, str] = {
    "predictions": "prediction log",
    "versions": "packages",
    "reports": "pages of looks",
    "backtests": "backtests",
    "profiles": "profiles",
    "rebuilds": "rebuilds",
    "mlflow/artifacts": "MLflow's artifacts",
}
LOGS, OF_LOGS = "airflow/logs", "Airflow's logs"
DAG = re.compile(r"dag_id=[a-z]+__(?P<model>.+)")
CACHE, LEDGER, SERVICES = "DVC's cache", "the ledger", "services"
# Bytes by model, then by place; the model '' has what all have together.
Places = Mapping[str, Mapping[str, int]]


class StoredBytes:
    """`look` is called again and again by one process of this home; it looks once a day, in a thread of its own, so that no check waits.
    `elsewhere` gives what lies on no disk of this machine."""

    def __init__(
        self, home: Path, project: Path, ledger: Ledger, elsewhere: Callable[[], Places] | None = None
    ) -> None:
        self._home, self._project, self._ledger, self._elsewhere = home, project, ledger, elsewhere
        self._due: float | None = None
        self._thread: threading.Thread | None = None

    def look(self, models: Collection[str], now: float) -> None:
        """Raises LedgerError."""
        if self._due is None:
            newest = max((ms_of(entry.at) / 1000 for entry in self._ledger.newest(BytesStored)), default=0.0)
            self._due = max(now + FIRST_S, newest + EVERY_S)
        if now < self._due or (self._thread is not None and self._thread.is_alive()):
            return
        self._due = now + EVERY_S
        self._thread = threading.Thread(target=self._look, args=(set(models), now), daemon=True)
        self._thread.start()

    def _look(self, models: Collection[str], now: float) -> None:
        try:
            self.note(models, now)
            return
        except (PerennialError, OSError) as error:
            log.warning("the bytes that lie outside the DVC remote are not in the ledger yet: %s", error)
        except Exception:
            log.exception("the bytes that lie outside the DVC remote are not in the ledger yet")
        self._due = now + AGAIN_S

    def note(self, models: Collection[str], now: float) -> None:
        """Looks, and notes it for each model where that says something new. Raises LedgerError, OSError."""
        names = {*models, *self._ledger.models()} - {""}
        found: dict[str, dict[str, int]] = {name: {} for name in names}
        # What may be away first: then nothing was read in vain.
        elsewhere = self._elsewhere() if self._elsewhere else {}
        for places in (on_disk(self._home, self._project, names), elsewhere):
            shares = {place: size // len(names) for place, size in places.get("", {}).items()} if names else {}
            for name, of in found.items():
                for place, size in (*places.get(name, {}).items(), *shares.items()):
                    of[place] = of.get(place, 0) + size
        newest = {entry.model: entry for entry in self._ledger.newest(BytesStored)}
        for name, of in sorted(found.items()):
            before = newest.get(name)
            if before is None or _is_new(before.event.places, of) or now - ms_of(before.at) / 1000 >= OLD_S:
                self._ledger.append(BytesStored(places=dict(sorted(of.items()))), name)


def _is_new(before: Mapping[str, int], places: Mapping[str, int]) -> bool:
    return any(abs(places.get(place, 0) - before.get(place, 0)) >= CHANGED for place in {*before, *places})


def on_disk(home: Path, project: Path, models: Collection[str]) -> Places:
    """What lies below the home and in DVC's cache. A file that goes meanwhile is left out."""
    cache, remotes = dvc_folders(project)
    seen: set[tuple[int, int]] = set()
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for path in _files(cache, ()):
        found[""][CACHE] += _size(path, seen)
    inside = (*remotes, cache)
    for path in _files(home, inside):
        if size := _size(path, seen):
            model, place = _of(Path(path.path).relative_to(home).parts, models)
            found[model][place] += size
    return found


def _of(parts: tuple[str, ...], models: Collection[str]) -> tuple[str, str]:
    """(the model, the place) of a file of the home."""
    for folder, place in OF_MODELS.items():
        depth = folder.count("/") + 1
        if "/".join(parts[:depth]) == folder and len(parts) > depth:
            name = parts[depth]
            model = name if name in models else name.partition(".")[0] if len(parts) == depth + 1 else ""
            return (model if model in models else ""), place
    if "/".join(parts[:2]) == LOGS:
        named = next((found for part in parts[2:] if (found := DAG.fullmatch(part))), None)
        return (named["model"] if named is not None and named["model"] in models else ""), OF_LOGS
    return "", LEDGER if parts[0].startswith("ledger.db") else SERVICES


def dvc_folders(project: Path) -> tuple[Path, tuple[Path, ...]]:
    """(DVC's cache, its remotes that are folders) of the project."""
    merged: dict[str, dict[str, str]] = defaultdict(dict)
    for name in ("config", "config.local"):
        try:
            of = ConfigObj(str(project / ".dvc" / name), encoding="utf-8")
        except (ConfigObjError, OSError, UnicodeError):
            continue
        for section in of.sections:
            merged[section] |= {key: value for key, value in of[section].items() if isinstance(value, str)}
    here = project / ".dvc"
    remotes = [of["url"] for section, of in merged.items() if section.startswith(("remote", "'remote")) and "url" in of]
    cache = Path(os.path.normpath(here / merged["cache"].get("dir", "cache")))
    return cache, tuple(Path(os.path.normpath(here / url)) for url in remotes if "://" not in url)


def _files(folder: Path, without: Collection[Path]) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as listed:
            entries = list(listed)
    except OSError:
        return
    for entry in entries:
        if entry.is_symlink():
            continue
        if not entry.is_dir():
            yield entry
        elif Path(entry.path) not in without:
            yield from _files(Path(entry.path), without)


def _size(file: os.DirEntry[str], seen: set[tuple[int, int]]) -> int:
    """Its bytes; 0 for one that was counted under another name."""
    try:
        status = file.stat(follow_symlinks=False)
    except OSError:
        return 0
    if status.st_nlink > 1:
        if (status.st_dev, status.st_ino) in seen:
            return 0
        seen.add((status.st_dev, status.st_ino))
    return status.st_size
