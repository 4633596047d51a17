"""A world in memory: slots, and one server that answers for all of them and, by the route file, for the router."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.ledgers import ledger_of
from pipeline.errors import PerennialError, RegistryError, RolloutError
from pipeline.policy.canary import Judgement
from pipeline.registry.held import Held
from pipeline.rollout import failpoints
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.engines.base import Running
from pipeline.rollout.routing import route_file
from pipeline.settings.addresses import Router
from pipeline.settings.rollout import Rollout
from pipeline.training import signing
from pipeline.training.signing import SigningKey

SETTINGS = Rollout(engine="process", bake_s=0, ready_timeout_s=2)
VERSIONS = ("1", "2", "3")
UNSIGNED = "9"
GOLDEN = [0.25, 0.75]


class Killed(BaseException):
    """The process is gone: nothing of it cleans up."""


@contextmanager
def killed_at(point: str) -> Iterator[SimpleNamespace]:
    """The rollout in this block ends at the failpoint, `NAME` or `NAME#N`, as a killed process does: it does nothing more.

    The `killed` of the result says whether the rollout reached it.
    """
    outcome, reached = SimpleNamespace(killed=False), Counter()

    def reach(name: str) -> None:
        reached[name] += 1
        outcome.killed = outcome.killed or point in (f"{name}#{reached[name]}", name)
        if outcome.killed:
            raise Killed

    with pytest.MonkeyPatch.context() as during:
        during.setattr(failpoints, "reach", reach)
        with suppress(Killed):
            yield outcome


class WorldEngines:
    """The engines of a world: those that answer now, and the one that a new slot gets."""

    def __init__(self, world):
        self.answering, self.chosen = [world], world

    def choose(self, name):
        return self.chosen, "a world of its own"

    def all(self):
        return list(self.answering)


class World:
    """Slots in memory, and one server that plays them all and the router."""

    def __init__(self, home: Path):
        self.home, self.running, self.promoted, self._started = home, {}, None, 0
        self.signatures, self.anchors = {}, {}
        self.images, self.started_from = set(), []  # serving images; those that slots were started from
        self.beside = []  # other engines, whose slots the router reaches too
        self.engines = WorldEngines(self)
        self.key = SigningKey(home)
        world = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.strip("/").split("/")
                headers = world.slot(name[1], name[2]) if name[0] == "slot" else world.routed(name[0])
                self.send_response(200 if headers else 503)
                for key, value in (headers or {}).items():
                    self.send_header(key, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def do_POST(self):
                """A slot answers its golden requests as they were recorded."""
                _, _, slot, number, _ = self.path.split("/")
                assert world.slot(slot, number)
                self.rfile.read(int(self.headers["content-length"]))
                body = json.dumps({"predictions": GOLDEN}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        # An end waits for the next look: half a second by default, of each world.
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def slot(self, slot, number):
        running = self.running.get(slot)
        there = running is not None and running.address.endswith(f"/{number}")
        return {"x-model-version": running.version} if there else None

    def routed(self, model):
        try:
            current = route_file.read(self.home, model)
        except RolloutError:
            return None
        if current is None:
            return None
        for routed in current.answering:
            for engine in (self, *self.beside):
                running = engine.running.get(routed.slot)
                if running is not None and running.address == routed.address:
                    return {"x-model-version": running.version, "x-route": current.stamp}
        return None

    # The engine's interface.
    name = "world"

    def start(self, spec):
        assert spec.slot not in self.running
        self.started_from.append(spec.image)
        self._started += 1  # like a port: another one each time
        address = f"{self.url}/slot/{spec.slot}/{self._started}"
        running = Running(spec.model, spec.slot, spec.version, address, self.name)
        self.running[spec.slot] = running
        return running

    def find(self, model, slot):
        return self.running.get(slot)

    def stop(self, model, slot, drain_s):
        self.running.pop(slot, None)
        return 0

    def output(self, model, slot):
        return ""

    def all(self):
        return list(self.running.values())

    def has_image(self, runtime, digest):
        return digest in self.images

    def contents(self, model, slot):
        return None

    def system(self, runtime):
        return None

    def prune(self, model, keep):
        pass

    # The registry's, with the real signatures.
    def deployable_package(self, model, version, digest=""):
        folder = self.package(version)
        if not self.key.verified((folder / signing.MANIFEST).read_bytes(), self.signatures[version]):
            raise RegistryError(f"version {version}", "is not signed", "train it")
        return folder

    def signature(self, model, version, digest=""):
        return self.signatures[version]

    def package_folder(self, model, version, digest=""):
        return self.package(version)

    def package(self, version):
        return self.home / "versions" / version

    def _pack(self, version):
        """A package as evaluation makes it; its signature, which is another's for one that never passed its gates."""
        folder = self.package(version)
        folder.mkdir(parents=True)
        golden = {"version": version, "request": {}, "predictions": GOLDEN}
        (folder / "golden.json").write_text(json.dumps(golden))
        schema = {"features": [], "key": "customer", "event_time": "seen_at"}
        manifest = {"version": version, **schema, "files": {"golden.json": signing.digest(folder / "golden.json")}}
        content = json.dumps(manifest).encode()
        (folder / signing.MANIFEST).write_bytes(content)
        return self.key.sign(content if version != UNSIGNED else b"another")

    def promote(self, model, version):
        self.promoted = version

    def anchor(self, model, version, head):
        self.anchors[version] = head

    def demote(self, model):
        self.promoted = None

    def champion(self, model):
        return self.promoted

    uri = "memory"

    def held(self, model, version, digest):
        return Held(True, True, self.promoted, run="r", run_state="active", experiment="1", experiment_state="active")


@pytest.fixture
def world_folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a folder: a world's ledger is synced to it twice for each effect."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@contextmanager
def lived_in(home: Path) -> Iterator[tuple[World, RolloutContext]]:
    """A world that the rollout code takes for the real one, and a rollout context in it."""
    home.mkdir(parents=True, exist_ok=True)
    world = World(home)
    world.signatures = {version: world._pack(version) for version in (*VERSIONS, UNSIGNED)}
    context = RolloutContext(
        home,
        ledger_of(home),
        world,
        world.engines,
        Router(world.url, world.url, world.url),
        judge=lambda *_: lambda: Judgement("promote", "all is well"),
        look_s=0.001,
    )
    try:
        yield world, context
    finally:
        world.server.shutdown()
        world.server.server_close()


def race(call: Callable[[str], Any], one: str, two: str) -> list[Any]:
    """Both calls at once; the result or the error of each."""
    results: dict[str, Any] = {}

    def run(name: str, version: str) -> None:
        try:
            results[name] = call(version)
        except PerennialError as error:
            results[name] = error

    threads = [threading.Thread(target=run, args=pair) for pair in (("one", one), ("two", two))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return list(results.values())


def tamper(home: Path, how: str) -> None:
    """What another hand may do to the route file of `home`: changed, removed, garbled or noted."""
    path = route_file.route_file(home, "churn")
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
