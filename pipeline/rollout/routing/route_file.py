"""The route file: one Traefik dynamic file for each model, which says what share of its traffic each slot gets.

The file is the truth about traffic: Traefik reads it after a restart, and we read from it which version is live. It is
written aside, synced and renamed, so that no reader sees half of it. Its first line is the route as JSON, with the lease's
number and the ledger's head at that time; the rest is the route in Traefik's form.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from pipeline.errors import RolloutError
from pipeline.ledger import chain
from pipeline.ledger.chain import Head
from pipeline.rollout.routing.route import Route, RoutedSlot
from pipeline.rollout.routing.traefik import render
from pipeline.settings import yaml_file
from pipeline.settings.models import MODEL_NAME

OURS = "# perennial "
# So large is the file that the next route is written over: a full disk must not keep traffic where it harms. A route has some 6 KB.
RESERVE_BYTES = 16_384


def routes_folder(home: Path) -> Path:
    """The folder that Traefik watches: a file in it changes traffic at once."""
    return home / "routes"


def route_file(home: Path, model: str) -> Path:
    """The one file that says who gets which share of the model's traffic."""
    return routes_folder(home) / f"{model}.yaml"


def read(home: Path, model: str) -> Route | None:
    """The model's route; None when it has none. Raises RolloutError when the file is not as we wrote it."""
    path = route_file(home, model)
    if not path.is_file():
        return None
    try:
        return route_of(path.read_text(encoding="utf-8"), model)
    except (OSError, ValueError) as error:
        what = str(error) if isinstance(error, NotOurs) else f"cannot be read ({error})"
        again = "`perennial reconcile` writes it again"
        raise RolloutError(f"route {path}", what, again) from error


class NotOurs(ValueError):
    """A text is no route file of ours. `str()` says why; `said` is what its first line says all the same, None when nothing."""

    def __init__(self, why: str, said: Route | None = None) -> None:
        super().__init__(why)
        self.said = said


@functools.lru_cache(maxsize=1000)
def route_of(text: str, model: str) -> Route:
    """The route of the model, from the text of its file. Raises NotOurs."""
    first, _, rest = text.partition("\n")
    try:
        values = json.loads(first.removeprefix(OURS))["route"]
        slots = {k: RoutedSlot(**values[k]) if values[k] else None for k in ("live", "previous", "candidate")}
        route = Route(**{**values, **slots})
        rendered = render(route)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotOurs(f"was not written by Perennial ({error!r})") from error
    if route.model != model:
        raise NotOurs(f"is a copy of the route of {route.model}")
    try:
        changed = _parsed(rest) != rendered
    except yaml.YAMLError as error:
        raise NotOurs("is damaged", route) from error
    if changed:
        raise NotOurs("was changed by another hand", route)
    return route


def _parsed(text: str) -> Any:
    """As Traefik reads it. We write JSON, which is read in a tenth of YAML's time. Raises yaml.YAMLError."""
    try:
        return json.loads(text, object_pairs_hook=_each_key_once)
    except (ValueError, RecursionError):
        return yaml_file.parse(text)


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key is written twice")
    return found


def routed_models(home: Path) -> list[str]:
    """The names of the models that have a route file."""
    return [path.stem for path in sorted(routes_folder(home).glob("*.yaml")) if MODEL_NAME.fullmatch(path.stem)]


def write(home: Path, route: Route, token: int = 0, head: Head | None = None) -> Route:
    """Replaces the model's route file atomically and durably; returns the route with its new stamp.

    `token` is the lease's number, `head` the ledger's at this moment, as far as it can be read. Raises RolloutError when the file
    was written under a larger number: then this rollout has been overtaken; and when the file cannot be written.
    """
    route = replace(route, stamp=uuid.uuid4().hex[:12])
    with _locked(home, route.model, token):
        text = text_of(route, token, chain.later(head, head_of(home, route.model)))
        keep(home, route.model, text)
        put(home, route.model, text)
    return route


def keep(home: Path, model: str, text: str) -> None:
    """Keeps a copy of the file beside routes/, to restore it from when another hand damages it.

    Written before the file, so that it is never older. Without room for it there is no copy.
    """
    copy = kept_file(home, model)
    try:
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(text, encoding="utf-8")
    except OSError:
        copy.unlink(missing_ok=True)


def kept_file(home: Path, model: str) -> Path:
    """A copy of the route outside the folder that Traefik watches, from which a damaged one is restored."""
    return home / "routes-kept" / f"{model}.yaml"


@contextmanager
def _locked(home: Path, model: str, token: int) -> Iterator[None]:
    """Keeps other writers from the model's file. Raises RolloutError when it was written under a larger number, and when the system
    does not let it be written."""
    try:
        routes_folder(home).mkdir(parents=True, exist_ok=True)
        with lock(home, model):
            written = token_of(home, model)
            if written > token:
                observed = f"was moved by a younger rollout ({written} against {token})"
                raise RolloutError(f"route {model}", observed, "look at its timeline")
            yield
    except OSError as error:
        check = f"make room, or give back the right to write there; then `perennial reconcile {model}`"
        raise RolloutError(f"route {route_file(home, model)}", f"cannot be written ({error})", check) from error


def lock(home: Path, model: str) -> FileLock:
    """Allows one writer of the model's file at a time."""
    (home / "locks").mkdir(exist_ok=True)
    return FileLock(home / "locks" / f"{model}.route")


def token_of(home: Path, model: str) -> int:
    """The number of the lease under which the model's route was written; 0 for none."""
    try:
        return int(_first_line(home, model).get("token", 0))
    except (ValueError, TypeError):
        return 0


def head_of(home: Path, model: str) -> Head | None:
    """The ledger's head when the model's route was last written; None when the file does not say."""
    return Head.parse(_first_line(home, model).get("ledger"))


def _first_line(home: Path, model: str) -> dict[str, Any]:
    """The values of the file's first line; none when another hand wrote it."""
    path = route_file(home, model)
    try:
        with path.open(encoding="utf-8") as file:
            first = file.readline()
        values = json.loads(first.removeprefix(OURS)) if first.startswith(OURS) else {}
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def text_of(route: Route, token: int, head: Head | None) -> str:
    """The file's content."""
    anchor = {"ledger": str(head)} if head is not None else {}
    # JSON is YAML with all text in quotes. Traefik's YAML reads a stamp like 088777615330 as a number; PyYAML does not, and would
    # write it without quotes.
    first = OURS + json.dumps({"token": token, **anchor, "route": asdict(route)})
    return f"{first}\n{json.dumps(render(route), indent=1)}"


def put(home: Path, model: str, text: str) -> None:
    """Replaces the model's file, atomically and durably; on a full disk too, once after each time that there was room."""
    path, aside = route_file(home, model), _aside(home, model)
    # Over the bytes of the reserve, which the file system has given already.
    with aside.open("r+b" if aside.is_file() else "xb") as file:
        file.write(text.encode())
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    sync_folder(path.parent)
    with contextlib.suppress(OSError):
        aside.write_bytes(bytes(RESERVE_BYTES))


def _aside(home: Path, model: str) -> Path:
    """Where the next route is written, and the reserve for it. Traefik reads only *.yaml, *.yml and *.toml."""
    return routes_folder(home) / f".{model}.part"


def remove(home: Path, model: str, token: int = 0) -> None:
    """Takes the model off the router, durably. Raises RolloutError as `write` does."""
    with _locked(home, model, token):
        route_file(home, model).unlink(missing_ok=True)
        sync_folder(routes_folder(home))
        kept_file(home, model).unlink(missing_ok=True)
        _aside(home, model).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes a rename or a removal in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
