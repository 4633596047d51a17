"""Where the router of this machine answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# The user that our own services and commands are in Airflow.
AIRFLOW_USER = "admin"


def services_of(home: Path) -> dict[str, str]:
    """The URLs that `make up` wrote down in `home`, by service; none before its first time."""
    file = home / "services.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


@dataclass(frozen=True)
class Router:
    """Traefik's URLs, without a trailing slash: where it takes requests, what users call that, where it reports on itself."""

    url: str
    public_url: str
    api_url: str

    @classmethod
    def of(cls, home: Path, variables: Mapping[str, str]) -> Router:
        """What `variables` say ($PERENNIAL_… without the prefix), else what `make up` wrote down in `home`, else the
        default ports of the loopback address."""
        services = services_of(home)

        def url(service: str, name: str, default: str) -> str:
            local = services.get(service) or f"http://127.0.0.1:{variables.get(f'{name}_PORT', default)}"
            return variables.get(f"{name}_URL", local).rstrip("/")

        router = url("router", "ROUTER", "8000")
        public = variables.get("ROUTER_PUBLIC_URL", router).rstrip("/")
        return cls(router, public, url("router_api", "ROUTER_API", "8001"))
