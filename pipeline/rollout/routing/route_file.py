"""The route file: one Traefik dynamic file for each model, which says what share of its traffic each slot gets.

The file is the truth about traffic: Traefik reads it after a restart, and we read from it which version is live. It is
written aside, synced and renamed, so that no reader sees half of it. Its first line is the route as JSON, with the lease's
number and the ledger's head at that time; the rest is the route in Traefik's form.
"""

from __future__ import annotations

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

OURS = "# perennial "


def routes_folder(home: Path) -> Path:
    return home / "routes"


def route_file(home: Path, model: str) -> Path:
    return routes_folder(home) / f"{model}.yaml"


def read(home: Path, model: str) -> Route | None:
    """The model's route; None when it has none. Raises RolloutError when the file is not as we wrote it."""
    path = route_file(home, model)
    if not path.is_file():
        return None
    first, _, rest = path.read_text(encoding="utf-8").partition("\n")
    try:
        values = json.loads(first.removeprefix(OURS))["route"]
        slots = {k: RoutedSlot(**values[k]) if values[k] else None for k in ("live", "previous", "candidate")}
        route = Route(**{**values, **slots})
        changed = yaml_file.parse(rest) != render(route)
    except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise _foreign(path, f"was not written by Perennial ({error!r})") from error
    if changed:
        raise _foreign(path, "was changed by another hand")
    return route


def _foreign(path: Path, what: str) -> RolloutError:
    return RolloutError(f"route {path}", what, "`python -m pipeline reconcile` writes it again from the ledger")


def routed_models(home: Path) -> list[str]:
    """The names of the models that have a route file."""
    return [path.stem for path in sorted(routes_folder(home).glob("*.yaml"))]


def write(home: Path, route: Route, token: int = 0, head: Head | None = None) -> Route:
    """Replaces the model's route file atomically and durably; returns the route with its new stamp.

    `token` is the lease's number, `head` the ledger's at this moment, as far as it can be read. Raises RolloutError when the file was written under a larger number: then this rollout
    has been overtaken.
    """
    route = replace(route, stamp=uuid.uuid4().hex[:12])
    with _locked(home, route.model, token):
        _replace(route_file(home, route.model), route, token, chain.later(head, head_of(home, route.model)))
    return route


@contextmanager
def _locked(home: Path, model: str, token: int) -> Iterator[None]:
    """Keeps other writers from the model's file. Raises RolloutError when it was written under a larger number."""
    routes_folder(home).mkdir(parents=True, exist_ok=True)
    (home / "locks").mkdir(exist_ok=True)
    with FileLock(home / "locks" / f"{model}.route"):
        written = token_of(home, model)
        if written > token:
            observed = f"was moved by a younger rollout ({written} against {token})"
            raise RolloutError(f"route {model}", observed, "look at its timeline")
        yield


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


def _replace(path: Path, route: Route, token: int, head: Head | None) -> None:
    # Traefik reads only *.yaml and *.toml, so it does not see the file that is being written.
    aside = path.with_name(f".{route.model}.part")
    with aside.open("w", encoding="utf-8") as file:
        anchor = {"ledger": str(head)} if head is not None else {}
        file.write(OURS + json.dumps({"token": token, **anchor, "route": asdict(route)}) + "\n")
        # JSON is YAML with all text in quotes. Traefik's YAML reads a stamp like 088777615330 as a number; PyYAML does not, and
        # would write it without quotes.
        json.dump(render(route), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    sync_folder(path.parent)


def remove(home: Path, model: str, token: int = 0) -> None:
    """Takes the model off the router, durably. Raises RolloutError as `write` does."""
    with _locked(home, model, token):
        route_file(home, model).unlink(missing_ok=True)
        sync_folder(routes_folder(home))


def sync_folder(folder: Path) -> None:
    """Makes a rename or a removal in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
