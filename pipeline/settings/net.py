"""Ports of this machine."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

# Linux tells here from which port on it takes those of outgoing connections; elsewhere they begin where IANA has them begin.
CONNECTIONS = Path("/proc/sys/net/ipv4/ip_local_port_range")
IANA_FIRST = 49_152
# Below are the services that have a number of their own, from there on those that Kubernetes gives to nodes.
LOWEST, END = 20_000, 30_000
TRIES = 100


def free_port() -> int:
    """A port of the loopback address that nothing listens on now, and, where there is room, that no outgoing connection is given.

    What is started there seconds later, or again after it died, finds it free. A caller who asks a dead server again and again would
    else be given the very port as its own some day, and be connected with itself.
    """
    room = min(_first_of_connections(), END) - LOWEST
    for _ in range(TRIES if room > 0 else 0):
        # By the system's randomness, because forked processes share the state of Python's.
        port = LOWEST + secrets.randbelow(room)
        if _binds(port):
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _first_of_connections() -> int:
    try:
        return int(CONNECTIONS.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return IANA_FIRST


def _binds(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
