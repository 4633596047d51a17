"""The file with the settings of a slot's server. It holds the key of pseudonyms, so only the server's user may read it.

Neither `docker inspect` nor a list of processes shows it. It stays until the slot is ended, because a container that its engine
restarts reads it again.
"""

from __future__ import annotations

import os
from pathlib import Path


def path_of(home: Path, engine: str, model: str, slot: str) -> Path:
    """The file of a slot. Two engines may have a server in the same slot, so each has its own file."""
    return home / "slots" / f"{model}-{slot}.{engine}.settings"


def write(path: Path, text: str, owner: int | None = None) -> None:
    """Writes the file for `owner` (a user's id; None: this user) alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.part")
    aside.unlink(missing_ok=True)
    with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        if owner is not None:
            os.chown(file.fileno(), owner, -1)
        file.write(text)
    aside.replace(path)
