"""What the Docker engine tells of containers that ended: its event list, read over its socket.

The list is asked for without the docker package, which would take 30 MB in a process that only waits.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from pipeline.rollout.engines.docker_images import LABEL

SOCKET = "unix:///var/run/docker.sock"
LIMIT_S = 10.0
# An engine reports an end and the kill for memory that caused it one after the other, in any order.
SETTLED_S = 1.0
# A kill for memory this long before an end was another process's: that of a request which is sent again is killed first.
CAUSE_S = 5.0


@dataclass(frozen=True)
class ContainerDeath:
    """A slot's container that ended though nobody ended it; `at` in seconds since 1970."""

    model: str
    slot: str
    version: str
    container: str
    cause: str
    at: float


@dataclass
class ContainerDeaths:
    """Lists the deaths of the containers of one home since the last look."""

    home_id: str
    since: float = field(default_factory=time.time)
    # When a process of the container was killed for memory last, in seconds since 1970.
    _killed_for_memory: dict[str, float] = field(default_factory=dict)
    _ended_on_purpose: set[str] = field(default_factory=set)

    def look(self) -> list[ContainerDeath]:
        """Raises OSError or http.client.HTTPException when the engine does not answer."""
        until = time.time() - SETTLED_S
        if until <= self.since:
            # A clock that was set back must not end the looks until it is there again.
            self.since = until if self.since - until > LIMIT_S else self.since
            return []
        labels = [f"{LABEL}.home={self.home_id}"]
        # What comes just after `until` says why something ended just before it.
        found = _events(self.since, until + SETTLED_S, labels)
        for event in found:
            if event["Action"] == "oom":
                self._killed_for_memory[event["Actor"]["ID"]] = event["timeNano"] / 1e9
            elif event["Action"] in ("kill", "stop", "destroy"):
                self._ended_on_purpose.add(event["Actor"]["ID"])
        deaths = [self._death(e) for e in found if e["Action"] == "die" and e["timeNano"] / 1e9 <= until]
        for event in found:
            if event["Action"] == "start":
                self._ended_on_purpose.discard(event["Actor"]["ID"])
        self.since = until
        return [death for death in deaths if death is not None]

    def _death(self, event: dict[str, Any]) -> ContainerDeath | None:
        container, told = event["Actor"]["ID"], event["Actor"]["Attributes"]
        if container in self._ended_on_purpose:
            return None
        code = told.get("exitCode", "?")
        at = event["timeNano"] / 1e9
        for_memory = abs(at - self._killed_for_memory.pop(container, 0.0)) < CAUSE_S
        cause = (
            f"killed for memory (exit code {code}); see rollout.serving.memory_mb"
            if for_memory
            else f"ended with {code}"
        )
        model, slot, version = (told[f"{LABEL}.{name}"] for name in ("model", "slot", "version"))
        return ContainerDeath(model, slot, version, container, cause, at)


def _events(since: float, until: float, labels: list[str]) -> list[dict[str, Any]]:
    wanted = {"type": ["container"], "event": ["oom", "die", "kill", "stop", "start", "destroy"], "label": labels}
    connection = _connection(os.environ.get("DOCKER_HOST") or SOCKET)
    try:
        path = f"/v1.41/events?since={since:.9f}&until={until:.9f}&filters={quote(json.dumps(wanted))}"
        connection.request("GET", path, headers={"Host": "docker"})
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise OSError(f"the Docker engine answers {answer.status}: {text.strip()}")
    finally:
        connection.close()
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _connection(address: str) -> http.client.HTTPConnection:
    """A connection to the engine at a unix: or tcp: address. Raises OSError for another one."""
    parts = urlsplit(address)
    if parts.scheme == "tcp":
        return http.client.HTTPConnection(parts.hostname or "", parts.port or 2375, timeout=LIMIT_S)
    if parts.scheme != "unix":
        raise OSError(f"DOCKER_HOST must be unix:// or tcp://, to see containers that die; got {address}")
    connection = http.client.HTTPConnection("docker", timeout=LIMIT_S)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(LIMIT_S)
    connection.sock.connect(parts.path)
    return connection
