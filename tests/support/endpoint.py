"""A model's endpoint on real slots behind a real Traefik, for each engine, and what must hold of it after an accident."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from harness.project import BODY, change_params
from pipeline.context import Context
from pipeline.ledger.timeline import live_at
from pipeline.rollout import deploy, recovery, rollback
from pipeline.rollout.engines.select import Engines
from pipeline.rollout.routing import route_file

FLIPPED, SKOPS, BOOSTED = "4", "5", "6"
# When a wait is given up that ends at once on a machine with time; the load on it decides how long that takes.
LIMIT_S = 120.0
# With these limits a step of a canary between equal versions ends after some twenty requests. One in a hundred slower than
# p99_ms takes 700 to rule out.
WIDE = {"bake_s": 0.2, "hold_s": 150, "limits__error_rate": 0.5, "limits__min_requests": 20, "limits__alpha": 0.4}
WIDE |= {
    "limits__p99_ms": None,
    "limits__refusal_rate": 0.5,
    "limits__churn": 0.9,
    "limits__drift": 0.9,
    "limits__prediction_rate": 0.9,
}
# For what is decided before or beside a slot, whichever engine runs it: on one of them.
one_engine = pytest.mark.parametrize("endpoint", ["process"], indirect=True)


class Endpoint:
    """A project with registered versions of churn behind a real router: 1 to 3 alike, FLIPPED has labels turned round, SKOPS is no ONNX."""

    def __init__(self, project, at):
        self.project, self.home, self.at = project, project / "home", at
        self.context = Context.here()
        self.address = f"{at.router}/churn"

    def deploy(self, version, strategy=None, **more):
        context = Context.here().rollout("test")
        return deploy.deploy(context, "churn", version, self.settings(), strategy=strategy, **more)

    def set(self, **settings):
        for key, value in settings.items():
            change_params(self.project, f"models.churn.rollout.{key.replace('__', '.')}", value)

    def rollback(self):
        return rollback.rollback(Context.here().rollout("test"), "churn", self.settings())

    def reconcile(self):
        return recovery.reconcile(Context.here().rollout("test"), {"churn": self.settings()})

    def settings(self):
        return Context.here().params.model("churn").rollout

    def live(self):
        """(version, slot) that answer. A slot that has just started, or missed a health check on a busy machine, is covered by its
        predecessor until the router's next look: then it is who answers after that."""
        until = time.monotonic() + LIMIT_S
        while True:
            answer = httpx.post(f"{self.address}/invocations", content=BODY)
            assert answer.status_code == 200
            answered = answer.headers["x-model-version"], answer.headers["x-slot"]
            current = route_file.read(self.home, "churn")
            if current is None or current.candidate or answered == (current.live.version, current.live.slot):
                return answered
            assert time.monotonic() < until, (answered, current)
            time.sleep(0.1)

    def containers(self):
        """This home's own: other tests' are on the same engine."""
        import docker

        home = f"perennial.home={hashlib.sha256(str(self.home).encode()).hexdigest()[:8]}"
        return docker.from_env().containers.list(filters={"label": [home]})

    def slots(self):
        return sorted((r.slot, r.version) for e in self.engines.all() for r in e.all())

    @property
    def engines(self) -> Engines:
        return self.context.rollout("test").engines


def agreed(endpoint: Endpoint) -> str:
    """One version is live; route, slots, registry and ledger say the same; nothing is left under way. Returns it."""
    current = route_file.read(endpoint.home, "churn")
    assert current.candidate is None
    until = time.monotonic() + LIMIT_S
    # A slot that missed a health check on a busy machine is covered by its predecessor until the next one, half a second later. A
    # route that another hand had damaged is followed as soon as Traefik has read it again.
    while (answered := answering(endpoint)) != {(200, current.live.version)}:
        assert time.monotonic() < until, (answered, current)
        time.sleep(0.2)
    assert live_at(endpoint.context.ledger, "churn").version == current.live.version
    assert endpoint.context.registry.champion("churn") == current.live.version
    assert {slot for slot, _ in endpoint.slots()} <= current.slots
    assert recovery.open_rollout(endpoint.context.ledger, "churn") is None
    assert endpoint.context.ledger.verify()[1] is None
    return current.live.version


def answering(endpoint: Endpoint) -> set[tuple[int, str]]:
    """(status code, version) of twenty answers in a row; '' for an answer without a version."""
    with httpx.Client() as client:
        answers = [client.post(f"{endpoint.address}/invocations", content=BODY) for _ in range(20)]
    return {(answer.status_code, answer.headers.get("x-model-version", "")) for answer in answers}


def kill_slot(endpoint: Endpoint, slot: str) -> None:
    """SIGKILL of the server in `slot`."""
    if endpoint.settings().engine == "docker":
        for container in endpoint.containers():
            if container.labels["perennial.slot"] == slot:
                container.kill()
    else:
        state = json.loads((Path(endpoint.home) / "slots" / f"churn-{slot}.json").read_text())
        os.kill(state["pid"], signal.SIGKILL)
