"""The address of a slot's container, and the host's path of one of our folders.

On one machine a slot is published on the loopback address. On a server we are a container too: slots and router share the
network of $PERENNIAL_SLOT_NETWORK, a slot is published nowhere, and the router reaches it by its container's name. The engine
does not know our file system, so it gets the path that a folder has on the host.
"""

from __future__ import annotations

import hashlib
import socket
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import RolloutError
from pipeline.settings.net import free_port

PORT = 8080
# Of one part of a host's name, between two dots.
LONGEST_HOST = 63


@dataclass(frozen=True)
class Placement:
    """A slot's URL, and its arguments for `containers.run`."""

    address: str
    network: str
    ports: dict[str, tuple[str, int]] = field(default_factory=dict)


def placement(name: str, network: str, *, shared: bool) -> Placement:
    """The placement of the container `name` on `network`; `shared` when the router is in the same network."""
    if shared:
        return Placement(f"http://{name}:{PORT}", network)
    port = free_port()
    return Placement(f"http://127.0.0.1:{port}", network, {f"{PORT}/tcp": ("127.0.0.1", port)})


def container_name(home_id: str, model: str, slot: str, *, shared: bool) -> str:
    """The name of a slot's container, which in a shared network is its host's name too: at most LONGEST_HOST characters."""
    name = f"perennial-{home_id}-{model}-{slot}"
    if not shared or len(name) <= LONGEST_HOST:
        return name
    digest = f"{hashlib.sha256(model.encode()).hexdigest()[:8]}-{slot}"
    return f"{name[: LONGEST_HOST - len(digest) - 1]}-{digest}"


def on_host(client: Any, folder: Path, *, shared: bool) -> str:
    """The path of `folder` on the host; on a server it is in a volume. Raises RolloutError when it is in none of our volumes."""
    if not shared:
        return str(folder)
    mounts = client.containers.get(socket.gethostname()).attrs["Mounts"]
    # Longest path first: one volume may be mounted inside another.
    for mount in sorted(mounts, key=lambda m: len(m["Destination"]), reverse=True):
        inside = PurePosixPath(mount["Destination"])
        if folder.is_relative_to(inside):
            return str(PurePosixPath(mount["Source"]) / folder.relative_to(inside))
    raise RolloutError(
        f"folder {folder}",
        "is in no volume of this container",
        "mount one at $PERENNIAL_HOME, as docker-compose.yaml does",
    )
