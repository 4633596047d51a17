"""Where the services of this machine answer."""

from __future__ import annotations

import json
import os
from pathlib import Path


def router_url(home: Path) -> str:
    """Where Traefik listens: $PERENNIAL_ROUTER_URL, or what `make up` wrote down, or the default."""
    return _service(home, "router", "PERENNIAL_ROUTER_URL", "PERENNIAL_ROUTER_PORT", "8000")


def public_url(home: Path) -> str:
    """What users call the router: $PERENNIAL_ROUTER_PUBLIC_URL where they see it under another name than we do."""
    return os.environ.get("PERENNIAL_ROUTER_PUBLIC_URL", "").rstrip("/") or router_url(home)


def router_api_url(home: Path) -> str:
    """Where Traefik tells of itself: $PERENNIAL_ROUTER_API_URL, or what `make up` wrote down, or the default."""
    return _service(home, "router_api", "PERENNIAL_ROUTER_API_URL", "PERENNIAL_ROUTER_API_PORT", "8001")


def _service(home: Path, name: str, url: str, port: str, default: str) -> str:
    if named := os.environ.get(url):
        return named.rstrip("/")
    told = home / "services.json"
    if told.is_file():
        return json.loads(told.read_text(encoding="utf-8"))[name]
    return f"http://127.0.0.1:{os.environ.get(port, default)}"
