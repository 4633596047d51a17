"""What Docker's event list says of a container that ended: for memory, by itself, or because somebody ended it."""

from __future__ import annotations

import time

import pytest

from harness.ledgers import ledger_of
from pipeline.errors import LedgerError
from pipeline.ledger.rollout_events import SlotDied
from pipeline.rollout import slot_deaths
from pipeline.rollout.container_deaths import ContainerWatch, DeathNotes
from pipeline.rollout.engines import docker_events
from pipeline.rollout.engines.docker_events import ContainerDeath, ContainerDeaths
from pipeline.settings.environment import Environment

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


def test_a_kill_for_memory_that_a_container_outlived_is_not_its_end(monkeypatch):
    """The process for requests that are sent again is killed first; what the container dies of later is another cause."""
    start = time.time() - 30
    found = [*events("oom", start=start), *events("die", start=start + 10)]
    monkeypatch.setattr(docker_events, "_events", lambda *_: found)
    assert [death.cause for death in ContainerDeaths("home", start - 1).look()] == ["ended with 137"]


def test_one_that_somebody_ended_did_not_die(monkeypatch):
    """A container that was stopped, killed by hand or removed leaves no death."""
    assert causes(monkeypatch, "kill", "die", "stop", "destroy") == []


class Dying:
    """A container that has died once more at each look."""

    def look(self):
        return [ContainerDeath("churn", "blue", "1", "c1", "ended with 137", 1.0)]


def test_a_server_notes_the_deaths_of_its_containers(tmp_path, monkeypatch):
    """The 1st, 2nd and 4th death in a row are events; what the ledger could not take is noted at the next look."""
    monkeypatch.setattr(slot_deaths, "_output", lambda *_: "out of memory")
    ledger = ledger_of(tmp_path)
    away = Environment(tmp_path, named_home=str(tmp_path), ledger="sqlite:////dev/null/none")
    notes = DeathNotes(away, ContainerWatch(Dying()))
    with pytest.raises(LedgerError):
        notes.look()
    notes.environment = Environment(tmp_path, named_home=str(tmp_path), ledger=ledger.url)
    for _ in range(4):
        notes.look()
    died = [entry.event for entry in ledger.events(SlotDied, model="churn")]
    assert [(event.times, event.cause, event.output) for event in died] == [
        (times, "ended with 137", "out of memory") for times in (1, 2, 4)
    ]
