"""50 honest requests a second beside hostile bodies: their p99 may at most double, none may fail, and no slot may die.

Slots on each engine with its default memory, behind Traefik, and `mlflow models serve` with the same version beside them. Each kind
of hostile request is sent alone, and all are sent together. Calm and hostile rounds take turns; the best round of each
counts for a time, for other work on the machine can only make one slower, and every round counts for a failure.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import docker
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks import flights, hostile, live, paced
from benchmarks.limits import within_limit
from benchmarks.paced import Paced
from harness import rollouts
from harness.project import ROOT, bodies
from pipeline.context import Context
from pipeline.ledger.rollout_events import SlotDied
from pipeline.rollout.engines.base import EngineSettings
from pipeline.rollout.engines.docker import LABEL, home_id
from pipeline.rollout.engines.process import ProcessEngine
from pipeline.settings.net import free_port

RATE, SECONDS = 50, 4.0
ROUNDS, LIMIT = 3, 2.0
# (requests a second, clients at once) of all kinds together; slow clients are beside them.
TOGETHER = ((2, 2), (5, 8), (10, 16))
ALONE = (4, 4)


@dataclass
class Rounds:
    """All rounds of one kind of traffic against one server."""

    honest: list[Paced] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    peak_mb: float = 0.0

    @property
    def failed(self) -> int:
        return sum(one.failed for one in self.honest)

    @property
    def sent(self) -> int:
        return sum(one.sent for one in self.honest)

    @property
    def outage_s(self) -> float:
        return max(one.outage_s for one in self.honest)

    def best_ms(self, share: float) -> float:
        return min(one.percentile_ms(share) for one in self.honest)


@dataclass
class Pair:
    """Rounds without and with hostile requests, in turn."""

    calm: Rounds = field(default_factory=Rounds)
    beside: Rounds = field(default_factory=Rounds)

    @property
    def ratio(self) -> float:
        """The p99 of the best hostile round, times that of the best calm one."""
        return self.beside.best_ms(0.99) / self.calm.best_ms(0.99)


@dataclass(frozen=True)
class Place:
    """A server under attack: `port` and `prefix` of its address, and where its processes are."""

    name: str
    port: int
    prefix: str
    pids: Sequence[int]


def main() -> bool:
    sound = []
    with tempfile.TemporaryDirectory() as folder:
        project = live.trained(Path(folder) / "project", 2)
        for engine in live.engines(project):
            sound.append(_slots(project, engine))
        _peer(project)
    return all(sound)


def _slots(project: Path, engine: str) -> bool:
    """Attacks a model's slots on one engine; False when a limit is broken."""
    with live.behind_traefik(project, engine) as (context, address), live.kept():
        for version in ("1", "2"):
            rollouts.deploy_version(context, version)
        before = _slot_pids(context)
        at = urlsplit(address)
        place = Place(f"{engine} engine", at.port or 80, at.path, sorted(before))
        measured = attacked(place, hostile.kinds())
        # The keeper notes the deaths of containers after some seconds.
        time.sleep(12)
        died = context.ledger.events(SlotDied, model="churn")
        ended = before - _slot_pids(context)
        show(place, measured)
        for death in died:
            print(death.event.sentence())
        sound = [
            within_limit(f"{engine}: honest requests that failed", sum(p.beside.failed for p in measured.values()), 0),
            within_limit(
                f"{engine}: deaths of slots by the ledger, and processes that ended", len(died) + len(ended), 0
            ),
        ]
        for kind, pair in measured.items():
            sound.append(within_limit(f"{engine}: p99 beside {kind}, times that without", pair.ratio, LIMIT))
        return all(sound)


def _peer(project: Path) -> None:
    """The same for `mlflow models serve`, which has no limits of its own: nothing is asked of it."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/churn/2", "--env-manager", "local"]
    command += ["--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    context = Context.here()
    env = {"MLFLOW_TRACKING_URI": context.registry.uri, "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}
    folder = project.parent / "mlflow"
    folder.mkdir()
    with flights.served(command, f"http://127.0.0.1:{port}/ping", folder, env):
        place = Place("mlflow models serve", port, "", [_listening(port)])
        show(place, attacked(place, ["gzip of nested lists", "many values", "one long text", hostile.SLOW], False))


def attacked(place: Place, kinds: list[str], mixed: bool = True) -> dict[str, Pair]:
    """The rounds by what was sent beside the honest requests: each kind alone, then all of them together."""
    honest = [hostile.request(f"{place.prefix}/invocations", body, close=False) for body in bodies()]
    paced.send(place.port, honest, RATE, 3)
    measured = {kind: Pair() for kind in kinds}
    for kind, pair in measured.items():
        _measure(place, honest, pair, ([kind], *ALONE))
    if mixed:
        for rate, clients in TOGETHER:
            pair = measured[f"all, {rate} a second, {clients} at once"] = Pair()
            _measure(place, honest, pair, (kinds, rate, clients))
    return measured


def _measure(place: Place, honest: list[bytes], pair: Pair, attack: tuple[list[str], float, int]) -> None:
    """At most ROUNDS of each, until the best hostile one is within the limit of the best calm one."""
    for _ in range(ROUNDS):
        _round(place, honest, pair.calm, None)
        _round(place, honest, pair.beside, attack)
        if pair.ratio <= LIMIT:
            return


def _round(
    place: Place,
    honest: list[bytes],
    rounds: Rounds,
    attack: tuple[list[str], float, int] | None,
) -> None:
    with _memory(place.pids, rounds), _attack(place, attack, rounds):
        rounds.honest.append(paced.send(place.port, honest, RATE, SECONDS))
    time.sleep(1)


@contextmanager
def _attack(place: Place, attack: tuple[list[str], float, int] | None, rounds: Rounds) -> Iterator[None]:
    """Sends the hostile requests meanwhile, from a process of its own."""
    if attack is None:
        yield
        return
    kinds, rate, clients = attack
    command = [sys.executable, "-m", "benchmarks.hostile", str(place.port), place.prefix, str(rate), str(clients)]
    # The working folder is the measured project's.
    command += [str(SECONDS + 0.5), *kinds]
    bad = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert bad.stdout is not None and bad.stdout.readline() == "ready\n"
    yield
    rounds.answers += Counter(json.loads(bad.stdout.read()))
    bad.wait()


@contextmanager
def _memory(pids: Sequence[int], rounds: Rounds) -> Iterator[None]:
    """Looks every 50 ms how much memory the largest of the processes takes, with its children; what they share counts once."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            for pid in pids:
                rounds.peak_mb = max(rounds.peak_mb, _resident_mb(pid))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()


def _resident_mb(pid: int) -> float:
    try:
        whole = psutil.Process(pid)
        return sum(p.memory_full_info().pss for p in (whole, *whole.children(recursive=True))) / 2**20
    except psutil.NoSuchProcess:
        return 0.0


def _slot_pids(context: Context) -> set[int]:
    """The first process of each slot."""
    settings = EngineSettings.of(context.environment)
    slots = ProcessEngine(settings)
    found = {slots.identity(one.model, one.slot) for one in slots.all()}
    pids = {identity.pid for identity in found if identity is not None}
    if live.DOCKER in {engine.name for engine in context.rollout("bench").engines.all()}:
        ours = {"label": f"{LABEL}.home={home_id(settings)}"}
        pids |= {container.attrs["State"]["Pid"] for container in docker.from_env().containers.list(filters=ours)}
    return pids


def _listening(port: int) -> int:
    """The process that listens on the port."""
    return next(
        c.pid for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.status == "LISTEN"
    )


def show(place: Place, measured: dict[str, Pair]) -> None:
    table = Table(title=f"{place.name}: {RATE} honest requests a second beside", title_justify="left")
    table.add_column("")
    for heading in ("p50, times calm", "p99, times calm", "p99 ms", "failed", "longest wait s", "peak MB", "answered"):
        table.add_column(heading, justify="right")
    for name, pair in measured.items():
        one, calm = pair.beside, pair.calm
        answers = ", ".join(f"{code} × {count}" for code, count in sorted(one.answers.items()))
        p50 = one.best_ms(0.5) / calm.best_ms(0.5)
        cells = (f"{p50:.2f}", f"{pair.ratio:.2f}", f"{one.best_ms(0.99):.1f}", f"{one.failed} of {one.sent}")
        table.add_row(name, *cells, f"{one.outage_s:.2f}", f"{one.peak_mb:.0f}", answers)
    Console(width=150).print(table)
