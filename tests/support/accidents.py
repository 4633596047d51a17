"""Rollouts in the world in memory: they are killed and recovered, and then one version is live everywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import LedgerError, PerennialError
from pipeline.ledger.rollout_events import RolloutEnded
from pipeline.ledger.timeline import live_at
from pipeline.rollout import deploy as deployments
from pipeline.rollout import recovery
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.results import Deployment, ShadowResult
from pipeline.rollout.routing import route_file
from tests.support.world import SETTINGS, World, killed_at, lived_in


@pytest.fixture
def lived(world_folder: Path) -> Iterator[tuple[World, RolloutContext]]:
    """A world in memory, and a rollout context in it."""
    with lived_in(world_folder / "home") as (world, context):
        yield world, context


def deploy(context: RolloutContext, version: str, strategy: str = "all-at-once") -> Deployment | ShadowResult:
    return deployments.deploy(context, "churn", version, SETTINGS, strategy=strategy)


def reconcile(context: RolloutContext) -> list[str]:
    return recovery.reconcile(context, {"churn": SETTINGS})


def kill_at(point: str, call: Callable[[], Any]) -> None:
    """`call` is killed at the failpoint `point`, which it must reach."""
    with killed_at(point) as outcome, contextlib.suppress(PerennialError):
        call()
    assert outcome.killed, point


def agreed(world: World, context: RolloutContext) -> str:
    """One version is live, and route, slots, registry and ledger say so; returns it."""
    current = route_file.read(context.home, "churn")
    assert current.candidate is None
    assert world.routed("churn")["x-model-version"] == current.live.version == world.promoted
    assert live_at(context.ledger, "churn").version == current.live.version
    assert set(world.running) <= current.slots
    assert recovery.open_rollout(context.ledger, "churn") is None
    assert reconcile(context) == []
    return current.live.version


@pytest.fixture
def the_end_cannot_be_recorded(monkeypatch):
    """The ledger fails at the moment at which a rollout of version 2 would end well."""
    record = RolloutContext.record

    def failing(context, event, model):
        if isinstance(event, RolloutEnded) and event.version == "2":
            raise LedgerError("ledger", "is away", "wait")
        return record(context, event, model)

    monkeypatch.setattr(RolloutContext, "record", failing)
