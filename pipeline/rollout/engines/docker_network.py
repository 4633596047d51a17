"""Where a slot's container listens, and what the engine calls a folder of ours.

On one machine a slot is published on the loopback address. Where we ourselves are a container ($PERENNIAL_SLOT_NETWORK
names the network that slots and router share) it is published nowhere and called by its name, and the engine, which knows
nothing of our file system, is told where on the host a folder of ours lies.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import RolloutError
from pipeline.settings.net import free_port

PORT = 8080


@dataclass(frozen=True)
class Placement:
    """A slot's address, and how `containers.run` is told of it."""

    address: str
    network: str
    ports: dict[str, tuple[str, int]] = field(default_factory=dict)


def placed(name: str, network: str, *, shared: bool) -> Placement:
    """Where the container `name` listens on `network`; `shared` when the router is on it too and knows it by name."""
    if shared:
        return Placement(f"http://{name}:{PORT}", network)
    port = free_port()
    return Placement(f"http://127.0.0.1:{port}", network, {f"{PORT}/tcp": ("127.0.0.1", port)})


def on_host(client: Any, folder: Path, *, shared: bool) -> str:
    """What the engine calls `folder`, which on a server is in a volume. Raises RolloutError when no volume of ours holds it."""
    if not shared:
        return str(folder)
    mounts = client.containers.get(socket.gethostname()).attrs["Mounts"]
    # The innermost, where one is mounted inside another.
    for mount in sorted(mounts, key=lambda m: len(m["Destination"]), reverse=True):
        inside = PurePosixPath(mount["Destination"])
        if folder.is_relative_to(inside):
            return str(PurePosixPath(mount["Source"]) / folder.relative_to(inside))
    raise RolloutError(
        f"folder {folder}",
        "is in no volume of this container",
        "mount one at $PERENNIAL_HOME, as docker-compose.yaml does",
    )
