"""The route of everything that belongs to no model: an error in JSON, as all else that the router answers by itself.

A file of ours in routes/ that is no model's: no model's name begins with "_". Whoever starts the router, or on a server the
deployer, writes it; `foreign_files` writes it again when another hand changed it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from pipeline.rollout.routing.route_file import routes_folder, sync_folder
from pipeline.rollout.routing.traefik import GUARD

NAME = "_no-model.yaml"
ROUTE = {
    "http": {
        # The lowest priority: each other router goes first.
        "routers": {
            "_.no-model": {
                "rule": "PathPrefix(`/`)",
                "priority": 1,
                "entryPoints": ["web"],
                "middlewares": ["_.no-model"],
                # Traefik's own; the middleware answers before it.
                "service": "noop@internal",
            }
        },
        "middlewares": {"_.no-model": {"plugin": {GUARD: {"status": 404}}}},
    }
}
TEXT = json.dumps(ROUTE, indent=1)


def write(home: Path) -> None:
    """Writes the file, atomically and durably."""
    folder = routes_folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".{NAME.removesuffix('.yaml')}.part"
    with aside.open("w", encoding="utf-8") as file:
        file.write(TEXT)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(folder / NAME)
    sync_folder(folder)
