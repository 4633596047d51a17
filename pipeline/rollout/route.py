"""The route: one Traefik dynamic file a model that says which slot answers its address.

The file is the truth about traffic: Traefik reads the same one after a restart, and we read back from it who
is live. It is written aside, synced and renamed, so that nobody ever reads half of it. The live slot comes
first; its warm predecessor takes over only while the live one fails its health checks.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from pipeline.errors import RolloutError

SERVICE = re.compile(r"^(?P<model>.+)-(?P<slot>blue|green)-v(?P<version>[^-]+)$")
RETRY = {
    "attempts": 8,
    "initialInterval": "100ms",
    "retryNonIdempotentMethod": True,
    "maxRequestBodyBytes": 1_048_576,
    "status": ["502", "503", "504"],
}
TOKEN = "# written under lease "
HEALTH = {"path": "/v2/health/ready", "interval": "500ms", "timeout": "1s"}


@dataclass(frozen=True)
class Share:
    """One slot in a route."""

    slot: str
    version: str
    address: str


@dataclass(frozen=True)
class Route:
    """Who answers a model's address: `live`, and `previous` while it is still warm."""

    model: str
    live: Share
    previous: Share | None = None


def routes_folder(home: Path) -> Path:
    return home / "routes"


def read(home: Path, model: str) -> Route | None:
    """The model's route, or None when it has none. Raises RolloutError for a file that is not ours."""
    path = routes_folder(home) / f"{model}.yaml"
    if not path.is_file():
        return None
    try:
        services = yaml.safe_load(path.read_text(encoding="utf-8"))["http"]["services"]
        top = (
            services[model]["failover"]
            if "failover" in services[model]
            else {"service": services[model]["weighted"]["services"][0]["name"]}
        )
        shares = [_share(services, top[key]) for key in ("service", "fallback") if key in top]
    except (yaml.YAMLError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise RolloutError(
            f"route {path}", f"is not one of ours ({error!r})", "run `python -m pipeline reconcile`"
        ) from error
    return Route(model, shares[0], shares[1] if len(shares) > 1 else None)


def _share(services: dict[str, Any], name: str) -> Share:
    told = SERVICE.match(name)
    assert told is not None, name
    return Share(told["slot"], told["version"], services[name]["loadBalancer"]["servers"][0]["url"])


def all_routes(home: Path) -> list[Route]:
    found = [read(home, path.stem) for path in sorted(routes_folder(home).glob("*.yaml"))]
    return [route for route in found if route is not None]


def render(route: Route) -> dict[str, Any]:
    """The route as Traefik's dynamic configuration."""
    m = route.model
    shares = [s for s in (route.live, route.previous) if s is not None]
    names = [f"{m}-{s.slot}-v{s.version}" for s in shares]
    top: dict[str, Any] = {"weighted": {"services": [{"name": names[0], "weight": 100}]}}
    if len(names) > 1:
        top = {"failover": {"service": names[0], "fallback": names[1]}}
    return {
        "http": {
            "routers": {
                m: {
                    "rule": f"Path(`/{m}`) || PathPrefix(`/{m}/`)",
                    "entryPoints": ["web"],
                    "service": m,
                    "middlewares": [f"{m}-strip", f"{m}-retry"],
                }
            },
            "middlewares": {f"{m}-strip": {"stripPrefix": {"prefixes": [f"/{m}"]}}, f"{m}-retry": {"retry": RETRY}},
            "services": {m: top}
            | {
                n: {"loadBalancer": {"servers": [{"url": s.address}], "healthCheck": HEALTH}}
                for n, s in zip(names, shares, strict=True)
            },
        }
    }


def write(home: Path, route: Route, token: int = 0) -> None:
    """Replaces the model's route file at once and for good.

    `token` is the lease's number. Raises RolloutError when the file was written under a larger one: its writer has
    been overtaken.
    """
    folder = routes_folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    (home / "locks").mkdir(exist_ok=True)
    with FileLock(home / "locks" / f"{route.model}.route"):
        written = token_of(home, route.model)
        if written > token:
            raise RolloutError(
                f"route {route.model}",
                f"was moved by a younger rollout ({written} against {token})",
                "look at its timeline",
            )
        _replace(folder, route, token)


def token_of(home: Path, model: str) -> int:
    """The number of the lease under which the model's route was written; 0 for none."""
    path = routes_folder(home) / f"{model}.yaml"
    first = path.read_text(encoding="utf-8").partition("\n")[0] if path.is_file() else ""
    return int(first.removeprefix(TOKEN)) if first.startswith(TOKEN) else 0


def _replace(folder: Path, route: Route, token: int) -> None:
    # Traefik reads only *.yaml and *.toml: it never sees the file that is being written.
    aside = folder / f".{route.model}.part"
    with aside.open("w", encoding="utf-8") as file:
        file.write(f"{TOKEN}{token}\n")
        yaml.safe_dump(render(route), file, sort_keys=False)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(folder / f"{route.model}.yaml")
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def router_url(home: Path) -> str:
    """Where Traefik listens: $PERENNIAL_ROUTER_URL, or what `make up` wrote down, or the default."""
    named = os.environ.get("PERENNIAL_ROUTER_URL")
    if named:
        return named.rstrip("/")
    told = home / "services.json"
    if told.is_file():
        return json.loads(told.read_text(encoding="utf-8"))["router"]
    return f"http://127.0.0.1:{os.environ.get('PERENNIAL_ROUTER_PORT', '8000')}"
