"""Files in routes/ that are not as we wrote them.

One file there that does not parse stops Traefik's whole file provider: no route of any model moves any more, and after a restart of
the router every model is 404. Two files with the same names take both models off the router. So each foreign file is set aside, to
routes-set-aside/, by whoever writes a route or reconciles, and again and again by what always runs (the keeper of the slots, on a
server the deployer). A model's own file that was damaged is written again as it was, without a moment in which it is gone.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from pathlib import Path

from pipeline.rollout.routing import no_model, route_file
from pipeline.rollout.routing.route_file import NotOurs, kept_file, routes_folder
from pipeline.settings.models import MODEL_NAME

# A route that is being written.
PART = re.compile(r"\._?[a-z0-9-]+\.part")

log = logging.getLogger(__name__)


def set_aside_folder(home: Path) -> Path:
    """Where files go that lay in routes/ and are not ours; no router reads it."""
    return home / "routes-set-aside"


def set_aside(home: Path) -> list[str]:
    """Sets all foreign files aside and restores what they had damaged; returns one line for each, which it also logs."""
    lines = [line for path in _entries(routes_folder(home)) if (line := _mended(home, path))]
    for line in lines:
        log.warning("%s", line)
    return lines


def were_set_aside(home: Path) -> str:
    """One line about what lies in routes-set-aside/; '' when nothing does."""
    names = [path.name for path in _entries(set_aside_folder(home))]
    if not names:
        return ""
    return f"{set_aside_folder(home)}: {', '.join(names)} lay in routes/ and no router reads them any more; look at them, then delete them"


class Watch:
    """Sets foreign files aside each time that something in routes/ has changed."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._seen: list[tuple[str, int, int, int]] | None = None

    def look(self) -> list[str]:
        seen = _signature(routes_folder(self._home))
        if seen == self._seen:
            return []
        lines = set_aside(self._home)
        self._seen = seen if not lines else None
        return lines


def _signature(folder: Path) -> list[tuple[str, int, int, int]]:
    try:
        with os.scandir(folder) as entries:
            stats = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    except OSError:
        return []
    return sorted((name, stat.st_ino, stat.st_mtime_ns, stat.st_size) for name, stat in stats)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _mended(home: Path, path: Path) -> str:
    """Sets the entry aside when it is foreign; returns the line about it, '' for a file of ours."""
    if PART.fullmatch(path.name) and not path.is_dir() and not path.is_symlink():
        return ""
    model = path.stem
    try:
        if path.name == no_model.NAME:
            return _no_model_mended(home, path)
        if path.suffix != ".yaml" or not MODEL_NAME.fullmatch(model):
            return f"routes/{path.name}: is no route of ours; it is now {_moved_aside(home, path)}"
        with route_file.lock(home, model):
            return _own_file_mended(home, model, path)
    except FileNotFoundError:
        return ""  # gone since it was listed
    except OSError as error:
        return f"routes/{path.name}: is no route of ours, and cannot be set aside ({error}); move it away by hand"


def _no_model_mended(home: Path, path: Path) -> str:
    """The same for the file of what belongs to no model, whose content is always the same."""
    if not path.is_symlink() and _bytes(path) == no_model.TEXT.encode():
        return ""
    aside = _copied_aside(home, path)
    no_model.write(home)
    return f"routes/{path.name}: was changed by another hand; written again as it was, and the changed file is {aside}"


def _own_file_mended(home: Path, model: str, path: Path) -> str:
    """The same for the file with a model's name. The caller holds its lock."""
    if not path.is_symlink() and not path.exists():
        return ""  # gone since it was listed
    try:
        text = _text(path)
        route_file.route_of(text, model)
    except (OSError, ValueError) as error:
        again = _last_text(home, model, path, error)
        if again is None:
            return f"routes/{path.name}: {_why(error)}; it is now {_moved_aside(home, path)}"
        if again == _bytes(path):
            return ""  # as an earlier version of ours wrote it
        aside = _copied_aside(home, path)
        route_file.put(home, model, again.decode())
        return f"{model}: its route {_why(error)}; written again as it was, and the changed file is {aside}"
    if _bytes(kept_file(home, model)) != text.encode():
        route_file.keep(home, model, text)
    return ""


def _text(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        raise NotOurs("is a link or a folder")
    return path.read_text(encoding="utf-8")


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, NotOurs) else f"cannot be read ({error})"


def _last_text(home: Path, model: str, path: Path, error: Exception) -> bytes | None:
    """The file's content as we wrote it last: the copy of it, else what its own first line says; None when neither is there."""
    kept = _bytes(kept_file(home, model))
    if kept is not None and kept == _bytes(path):
        return kept
    try:
        route_file.route_of((kept or b"").decode(), model)
        return kept
    except ValueError:
        pass
    if not isinstance(error, NotOurs) or error.said is None:
        return None
    token, head = route_file.token_of(home, model), route_file.head_of(home, model)
    return route_file.text_of(error.said, token, head).encode()


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.is_file() and not path.is_symlink() else None
    except OSError:
        return None


def _copied_aside(home: Path, path: Path) -> Path:
    """Copies a damaged file; moves what cannot be copied or replaced."""
    content = _bytes(path)
    if content is None:
        return _moved_aside(home, path)
    place = _place(home, path.name, content)
    place.write_bytes(content)
    return place


def _moved_aside(home: Path, path: Path) -> Path:
    place = _place(home, path.name, _bytes(path))
    shutil.move(path, place)
    return place


def _place(home: Path, name: str, content: bytes | None) -> Path:
    """Where the entry goes. The same content goes to the same place: what another program writes again and again fills no disk."""
    folder = set_aside_folder(home)
    folder.mkdir(exist_ok=True)
    if content is not None:
        return folder / f"{name}.{hashlib.sha256(content).hexdigest()[:8]}"
    number = 1
    while (folder / f"{name}.{number}").exists():
        number += 1
    return folder / f"{name}.{number}"
