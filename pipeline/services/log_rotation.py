"""services.log does not grow for ever: at its limit it goes on in an empty file, and what was written stays as services.log.1."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path

from pipeline.errors import SettingsError

log = logging.getLogger(__name__)

LOG = "services.log"
EVERY_S = 60
# The least that keep.services_log_mb may say: below it the settings are not even read.
LEAST_MB = 1


class Rotation:
    """Rotates the log of `home` when it is due; asked often, it looks once a minute."""

    def __init__(self, home: Path, project: Path) -> None:
        self._home, self._project, self._next = home, project, 0.0

    def due(self) -> bool:
        """Whether the log went on in an empty file just now."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + EVERY_S
        size = _size(self._home / LOG)
        return size > LEAST_MB * 1e6 and size > limit_mb(self._project) * 1e6 and rotate(self._home)


def rotate(home: Path) -> bool:
    """Copies the log to services.log.1 and empties it; whether it could.

    All services hold the file open and append to it, so it is emptied and not renamed: a line that one of them writes between the two
    may be lost.
    """
    file = home / LOG
    try:
        aside = home / f"{LOG}.part"
        shutil.copyfile(file, aside)
        aside.replace(home / f"{LOG}.1")
        os.truncate(file, 0)
    except OSError as error:
        log.warning("%s cannot be rotated: %s", file, error)
        return False
    log.info("went on in an empty file; what was before is in %s.1", LOG)
    return True


def limit_mb(project: Path) -> float:
    """keep.services_log_mb of params.yaml; its default where that cannot be read."""
    # The supervisor needs settings for nothing else.
    from pipeline.settings import models
    from pipeline.settings.keep import Keep

    try:
        return models.load(project).keep.services_log_mb
    except SettingsError:
        return Keep().services_log_mb


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
