"""What Docker's event list says of a container that ended: for memory, by itself, or because somebody ended it."""

from __future__ import annotations

import time

from pipeline.rollout.engines import docker_events
from pipeline.rollout.engines.docker_events import ContainerDeaths

TOLD = {"perennial.model": "churn", "perennial.slot": "blue", "perennial.version": "3"}


def events(*actions, start):
    return [
        {
            "Action": action,
            "timeNano": int((start + number / 100) * 1e9),
            "Actor": {"ID": "c", "Attributes": TOLD | ({"exitCode": "137"} if action == "die" else {})},
        }
        for number, action in enumerate(actions)
    ]


def causes(monkeypatch, *actions):
    start = time.time() - 10
    monkeypatch.setattr(docker_events, "_events", lambda since, until, labels: events(*actions, start=start))
    return [death.cause.partition(" (")[0] for death in ContainerDeaths("home", start - 1).look()]


def test_a_container_that_is_killed_for_memory_says_so(monkeypatch):
    """Docker tells of the kill for memory before or after the end that it caused."""
    assert causes(monkeypatch, "oom", "die", "start") == ["killed for memory"]
    assert causes(monkeypatch, "die", "oom", "start") == ["killed for memory"]


def test_one_that_ends_by_itself_has_its_exit_code(monkeypatch):
    """Each end counts, and what was killed for memory once is not the next time."""
    assert causes(monkeypatch, "die", "start", "die") == ["ended with 137"] * 2


def test_one_that_somebody_ended_did_not_die(monkeypatch):
    """A container that was stopped, killed by hand or removed leaves no death."""
    assert causes(monkeypatch, "kill", "die", "stop", "destroy") == []
