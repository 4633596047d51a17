"""Deploy, crash, roll back, race, tamper, reconcile, in any order: what must hold always holds.

A state machine drives the real rollout code, ledger, lease and route file in a world of its own: slots and the router
are one small HTTP server, which reads the route file as Traefik does. A sequence that breaks a rule is written to
tests/sequences/, and every sequence there is replayed on real containers behind a real Traefik.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from pipeline.errors import LeaseBusy, PerennialError, RolloutError
from pipeline.ledger.rollout_events import RolloutEnded, RolloutStarted
from pipeline.ledger.timeline import live_at
from pipeline.rollout import deploy, recovery, rollback
from pipeline.rollout.results import Deployment
from pipeline.rollout.routing import route_file
from pipeline.training import signing
from tests.support.required import EXHAUSTIVE
from tests.support.world import SETTINGS, UNSIGNED, VERSIONS, killed_at, lived_in, race, tamper

SEQUENCES = Path(__file__).parents[1] / "sequences"
POINTS = (
    "before empty slot",
    "after start slot",
    "before move route",
    "after move route",
    "before promote",
    "after promote",
    "after note baked",
    "before note rollout_ended",
)


class Rollouts(RuleBasedStateMachine):
    """Each rule is one thing that a person, a task or fate does."""

    went_live = 0

    def __init__(self):
        super().__init__()
        self.steps = []

    @initialize()
    def begin(self):
        self.lived_in = lived_in(Path(self.folder) / str(id(self)))
        self.world, self.context = self.lived_in.__enter__()
        self.ledger = self.context.ledger

    def teardown(self):
        if hasattr(self, "world"):
            type(self).went_live += len(self.ledger.events(RolloutEnded))
            self.lived_in.__exit__(None, None, None)

    def _do(self, call):
        try:
            return call()
        except PerennialError:
            return None

    @rule(version=st.sampled_from([*VERSIONS, UNSIGNED]), strategy=st.sampled_from(["all-at-once", "canary", "linear"]))
    def deploy(self, version, strategy):
        self.steps.append(["deploy", version, strategy])
        self._do(lambda: deploy.deploy(self.context, "churn", version, SETTINGS, strategy=strategy))

    @rule(
        version=st.sampled_from(VERSIONS),
        strategy=st.sampled_from(["all-at-once", "canary"]),
        at=st.sampled_from(POINTS),
    )
    def deploy_and_crash(self, version, strategy, at):
        self.steps.append(["crash", version, strategy, at])
        with killed_at(at):
            self._do(lambda: deploy.deploy(self.context, "churn", version, SETTINGS, strategy=strategy))

    @rule()
    def roll_back(self):
        self.steps.append(["rollback"])
        self._do(lambda: rollback.rollback(self.context, "churn", SETTINGS))

    @rule(slot=st.sampled_from(["blue", "green"]))
    def slot_dies(self, slot):
        self.steps.append(["slot_dies", slot])
        self.world.running.pop(slot, None)

    @rule(how=st.sampled_from(["changed", "removed", "garbled"]))
    def tamper(self, how):
        self.steps.append(["tamper", how])
        tamper(self.context.home, how)

    @rule(version=st.sampled_from(VERSIONS))
    def tamper_package(self, version):
        """For the time of a deploy: a package that is not what was signed starts nowhere."""
        self.steps.append(["tamper_package", version])
        golden = self.world.package(version) / "golden.json"
        kept = golden.read_bytes()
        before = [r for r in self.world.running.values() if r.version == version]
        golden.write_bytes(b"forged")
        self._do(lambda: deploy.deploy(self.context, "churn", version, SETTINGS))
        golden.write_bytes(kept)
        assert [r for r in self.world.running.values() if r.version == version and r not in before] == []

    @rule(one=st.sampled_from(VERSIONS), two=st.sampled_from(VERSIONS))
    def race(self, one, two):
        self.steps.append(["race", one, two])
        results = race(lambda version: deploy.deploy(self.context, "churn", version, SETTINGS), one, two)
        assert sum(isinstance(result, LeaseBusy) for result in results) <= 1

    @rule()
    def reconcile(self):
        self.steps.append(["reconcile"])
        recovery.reconcile(self.context, {"churn": SETTINGS})
        self.all_agree()

    def all_agree(self):
        """After reconcile: one live version, which route, slots, registry and ledger agree on."""
        current = route_file.read(self.context.home, "churn")
        live = live_at(self.ledger, "churn")
        if current is None:
            assert live is None
            assert not self.world.running
            return
        assert current.candidate is None
        assert live.version == current.live.version == self.world.promoted
        assert self.world.routed("churn")["x-model-version"] == current.live.version
        assert set(self.world.running) <= current.slots
        assert recovery.open_rollout(self.ledger, "churn") is None
        assert recovery.reconcile(self.context, {"churn": SETTINGS}) == []

    @invariant()
    def what_is_live_may_be(self):
        """Signed and gate-passed, in every state; and the chain verifies."""
        if not hasattr(self, "world"):
            return
        assert self.ledger.verify()[1] is None
        for running in self.world.running.values():
            folder = self.world.package(running.version)
            manifest = (folder / signing.MANIFEST).read_bytes()
            assert self.world.key.verified(manifest, self.world.signatures[running.version])
            assert signing.verified_manifest(folder)
        assert all(r.version in VERSIONS for r in self.world.running.values())
        assert self.world.promoted in (None, *VERSIONS)


@pytest.fixture
def machine(world_folder):
    return type("Rollouts", (Rollouts,), {"folder": str(world_folder)})


def test_whatever_happens_in_whatever_order(machine):
    """Deploys, crashes, rollbacks, races and tampering in any order leave one signed version live and an intact ledger."""
    explore = int(os.environ.get("PERENNIAL_EXPLORE", "0"))
    chosen = settings(
        max_examples=explore or 20,
        stateful_step_count=12,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=not explore,
    )
    made = []

    def build():
        made.append(machine())
        return made[-1]

    try:
        run_state_machine_as_test(build, settings=chosen)
    except BaseException:
        # The last one that was run is the smallest that fails.
        SEQUENCES.mkdir(exist_ok=True)
        (SEQUENCES / "failing.json").write_text(json.dumps(made[-1].steps, indent=1) + "\n")
        raise
    # A world in which nothing can go live keeps every rule.
    assert machine.went_live >= 30


def test_of_many_races_each_has_one_winner(machine):
    """Of two deploys at once one wins and the other is refused or follows it, and their events never overlap."""
    world = machine()
    world.begin()
    try:
        for turn in range(200 if EXHAUSTIVE else 60):
            began = len(world.ledger.events(RolloutStarted))
            one, two = VERSIONS[turn % 3], VERSIONS[(turn + 1) % 3]
            results = race(lambda version: deploy.deploy(world.context, "churn", version, SETTINGS), one, two)
            refused = [result for result in results if isinstance(result, RolloutError)]
            won = [result for result in results if isinstance(result, Deployment)]
            assert len(won) + len(refused) == 2
            assert len(won) >= 1
            assert all(isinstance(error, LeaseBusy) for error in refused)
            # Rollouts never overlap: each one's events stand together.
            events = world.ledger.events(RolloutStarted, RolloutEnded)[2 * began :]
            assert [e.kind for e in events] == ["rollout_started", "rollout_ended"] * (len(events) // 2)
            world.all_agree()
    finally:
        world.teardown()
