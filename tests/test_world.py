"""Deploy, crash, roll back, race, tamper, reconcile, in any order: what must hold always holds.

A state machine drives the real rollout code, ledger, lease and route file in a world of its own: slots and the router
are one small HTTP server, which reads the route file as Traefik does. A sequence that breaks a rule is written to
tests/sequences/, and every sequence there is replayed on real containers behind a real Traefik.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from pipeline.errors import PerennialError, RegistryError, RolloutError
from pipeline.ledger.table import open_ledger
from pipeline.ledger.timeline import live_at
from pipeline.params import Rollout
from pipeline.rollout import back, bake, execute, failpoints, mend, probe, route, slots
from pipeline.rollout import site as site_module
from pipeline.rollout.engine import Running
from pipeline.rollout.site import Site

SEQUENCES = Path(__file__).parent / "sequences"
SETTINGS = Rollout(engine="process", bake_s=0, ready_timeout_s=2)
VERSIONS = ("1", "2", "3")
UNSIGNED = "9"
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


class Killed(BaseException):
    """The process is gone: nothing of it cleans up."""


class World:
    """Slots in memory, and one server that plays them all and the router."""

    def __init__(self, home: Path):
        self.home, self.running, self.champion, self.dead = home, {}, None, False
        world = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.strip("/").split("/")
                told = world.slot(name[1]) if name[0] == "slot" else world.routed(name[0])
                self.send_response(200 if told else 503)
                for key, value in (told or {}).items():
                    self.send_header(key, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def slot(self, slot):
        running = self.running.get(slot)
        return {"x-model-version": running.version} if running else None

    def routed(self, model):
        try:
            current = route.read(self.home, model)
        except RolloutError:
            return None
        if current is None:
            return None
        for share in (current.live, current.previous):
            running = self.running.get(share.slot) if share else None
            if running is not None and running.version == share.version:
                return {"x-model-version": running.version, "x-route": current.stamp}
        return None

    # The engine's interface.
    name = "world"

    def start(self, wanted):
        assert wanted.slot not in self.running
        running = Running(wanted.model, wanted.slot, wanted.version, f"{self.url}/slot/{wanted.slot}", self.name)
        self.running[wanted.slot] = running
        return running

    def find(self, model, slot):
        return self.running.get(slot)

    def stop(self, model, slot, drain_s):
        if self.dead:
            return None  # the process that would clean up is gone
        self.running.pop(slot, None)
        return 0

    def output(self, model, slot):
        return ""

    def all(self):
        return list(self.running.values())

    def prune(self, model, keep):
        pass

    # The registry's.
    def deployable_package(self, home, model, version):
        if version not in VERSIONS:
            raise RegistryError(f"version {version}", "is not signed", "train it")
        return home

    def promote(self, home, model, version):
        self.champion = version


class Rollouts(RuleBasedStateMachine):
    """Each rule is one thing that a person, a task or fate does."""

    def __init__(self):
        super().__init__()
        self.steps = []

    @initialize()
    def begin(self):
        self.patch = pytest.MonkeyPatch()
        home = Path(self.folder) / str(id(self))
        home.mkdir()
        self.world = World(home)
        for module in (execute, mend, back):
            self.patch.setattr(module, "registry", self.world)
        self.patch.setattr(slots, "engine_named", lambda *_: (self.world, "a world of its own"))
        self.patch.setattr(slots.signing, "verified_manifest", lambda _folder: {})
        self.patch.setattr(site_module, "engines", lambda *_: [self.world])
        self.patch.setattr(probe, "golden", lambda *_: 1)
        self.patch.setattr(bake, "Observer", lambda *_, **__: SimpleNamespace(look=lambda: None))
        self.patch.setattr(bake, "judge", lambda *_: bake.Judgement("promote", "all is well"))
        self.patch.setattr(bake, "LOOK_S", 0.001)
        self.patch.setenv("PERENNIAL_ROUTER_URL", self.world.url)
        self.ledger = open_ledger(home)
        self.site = Site(home, home, self.ledger)

    def teardown(self):
        if hasattr(self, "world"):
            self.world.server.shutdown()
            self.world.server.server_close()
            self.patch.undo()

    def _do(self, call):
        try:
            return call()
        except PerennialError:
            return None

    @rule(version=st.sampled_from([*VERSIONS, UNSIGNED]), strategy=st.sampled_from(["all-at-once", "canary", "linear"]))
    def deploy(self, version, strategy):
        self.steps.append(["deploy", version, strategy])
        self._do(lambda: execute.deploy(self.site, "churn", version, SETTINGS, strategy=strategy))

    @rule(
        version=st.sampled_from(VERSIONS),
        strategy=st.sampled_from(["all-at-once", "canary"]),
        at=st.sampled_from(POINTS),
    )
    def deploy_and_crash(self, version, strategy, at):
        self.steps.append(["crash", version, strategy, at])

        def reach(name):
            if name == at:
                self.world.dead = True
                raise Killed

        with pytest.MonkeyPatch.context() as during:
            during.setattr(failpoints, "reach", reach)
            during.setattr(execute, "_undo", lambda *_: None)
            with contextlib.suppress(Killed):
                self._do(lambda: execute.deploy(self.site, "churn", version, SETTINGS, strategy=strategy))
        self.world.dead = False

    @rule()
    def roll_back(self):
        self.steps.append(["rollback"])
        self._do(lambda: back.rollback(self.site, "churn", SETTINGS))

    @rule(slot=st.sampled_from(["blue", "green"]))
    def slot_dies(self, slot):
        self.steps.append(["slot_dies", slot])
        self.world.running.pop(slot, None)

    @rule(how=st.sampled_from(["changed", "removed", "garbled"]))
    def tamper(self, how):
        self.steps.append(["tamper", how])
        tamper(self.site.home, how)

    @rule(one=st.sampled_from(VERSIONS), two=st.sampled_from(VERSIONS))
    def race(self, one, two):
        self.steps.append(["race", one, two])
        told = race(lambda version: execute.deploy(self.site, "churn", version, SETTINGS), one, two)
        assert sum("another rollout of it is going on" in str(t) for t in told) <= 1

    @rule()
    def reconcile(self):
        self.steps.append(["reconcile"])
        mend.reconcile(self.site, {"churn": SETTINGS})
        self.all_agree()

    def all_agree(self):
        """After reconcile: one live version, which route, slots, registry and ledger agree on."""
        current = route.read(self.site.home, "churn")
        told = live_at(self.ledger, "churn")
        if current is None:
            assert told is None
            assert not self.world.running
            return
        assert current.candidate is None
        assert told["version"] == current.live.version == self.world.champion
        assert self.world.routed("churn")["x-model-version"] == current.live.version
        assert set(self.world.running) <= current.slots
        assert mend.open_rollout(self.ledger, "churn") is None
        assert mend.reconcile(self.site, {"churn": SETTINGS}) == []

    @invariant()
    def what_is_live_may_be(self):
        """Signed and gate-passed, in every state; and the chain verifies."""
        if not hasattr(self, "world"):
            return
        assert self.ledger.verify()[1] is None
        assert all(r.version in VERSIONS for r in self.world.running.values())
        assert self.world.champion in (None, *VERSIONS)


def tamper(home, how):
    path = route.route_file(home, "churn")
    if not path.is_file():
        return
    if how == "removed":
        path.unlink()
    elif how == "garbled":
        path.write_text("http: [")
    else:
        path.write_text(
            path.read_text() + "# by another hand\n" if how == "noted" else path.read_text().replace("100", "7")
        )


def race(deploy, one, two):
    """Both at once; what came of each."""
    told = {}

    def run(name, version):
        try:
            told[name] = deploy(version)
        except PerennialError as error:
            told[name] = error

    threads = [threading.Thread(target=run, args=pair) for pair in (("one", one), ("two", two))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return list(told.values())


@pytest.fixture
def machine(tmp_path):
    return type("Rollouts", (Rollouts,), {"folder": str(tmp_path)})


def test_whatever_happens_in_whatever_order(machine):
    explore = int(os.environ.get("PERENNIAL_EXPLORE", "0"))
    chosen = settings(
        max_examples=explore or 30,
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


def test_of_two_hundred_races_each_has_one_winner(machine):
    """One deploys, the other is refused; or it came after and found the version live, or another one to follow."""
    world = machine()
    world.begin()
    try:
        for turn in range(200):
            began = len(world.ledger.events(kind="rollout_started"))
            one, two = VERSIONS[turn % 3], VERSIONS[(turn + 1) % 3]
            told = race(lambda version: execute.deploy(world.site, "churn", version, SETTINGS), one, two)
            refused = [t for t in told if isinstance(t, RolloutError)]
            won = [t for t in told if isinstance(t, dict)]
            assert len(won) + len(refused) == 2
            assert len(won) >= 1
            assert all("another rollout of it is going on" in str(t) for t in refused)
            # Rollouts never overlap: each one's events stand together.
            events = world.ledger.events(kind=("rollout_started", "rollout_ended"))[2 * began :]
            assert [e.kind for e in events] == ["rollout_started", "rollout_ended"] * (len(events) // 2)
            world.all_agree()
    finally:
        world.teardown()


SEQUENCE_FILES = sorted(SEQUENCES.glob("*.json"))


@pytest.mark.slow
@pytest.mark.parametrize("sequence", SEQUENCE_FILES, ids=[path.stem for path in SEQUENCE_FILES])
def test_a_sequence_is_replayed_on_real_slots(site, sequence, monkeypatch):
    """The same steps with real slots and a real Traefik; after each reconcile all agree."""
    from tests.test_killed import agreed, kill_slot

    site.set(bake_s=0.2)
    for name, *asked in json.loads(sequence.read_text()):
        try:
            if name == "deploy" and asked[0] in VERSIONS:
                site.deploy(asked[0], "all-at-once")
            elif name == "crash":
                with monkeypatch.context() as during:
                    during.setattr(failpoints, "reach", lambda at, asked=asked: _kill(at, asked[2]))
                    during.setattr(execute, "_undo", lambda *_: None)
                    site.deploy(asked[0], "all-at-once")
            elif name == "rollback":
                site.rollback()
            elif name == "slot_dies" and asked[0] in dict(site.slots()):
                kill_slot(site, asked[0])
            elif name == "tamper":
                tamper(site.home, asked[0])
            elif name == "race":
                race(site.deploy, *asked)
            elif name == "reconcile":
                site.reconcile()
                if route.read(site.home, "churn") is not None:
                    agreed(site)
        except (PerennialError, Killed):
            continue
    site.reconcile()
    if route.read(site.home, "churn") is not None:
        agreed(site)


def _kill(at, asked):
    if at == asked:
        raise Killed
