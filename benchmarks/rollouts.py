"""A hundred rollouts under steady load: what was dropped (an assertion), and how long the moves take (reported).

Beside it what one would run instead: a single server that is stopped and started again with the new version.
"""

from __future__ import annotations

import bisect
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import httpx

from demo.replay import Tally
from pipeline.errors import RolloutError
from pipeline.ledger import timeline
from pipeline.ledger.rollout_events import RolloutEnded, RolloutStarted, RouteMoved, RouteMoving, ShadowEnded
from pipeline.ledger.store import Entry
from pipeline.rollout import deploy, failpoints, probe, rollback
from pipeline.rollout.engines.base import EngineSettings, EngineUnavailable
from pipeline.rollout.engines.docker import DockerEngine
from pipeline.rollout.results import Deployment, ShadowResult
from pipeline.rollout.routing import route_file
from pipeline.runs import steps
from pipeline.settings.net import free_port
from tests.conftest import CHURN, change_params, make_project
from tests.support import commands
from tests.support.load import steady_load
from tests.support.rollouts import bodies
from tests.support.router import router

ROLLOUTS, REQUESTS, PACE = 100, 100_000, 450.0
RACES = 200
# The ledger tells milliseconds.
CLOCK_S = 0.005


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, _site(Path(folder) / "project") as (context, address):
        _told(hundred(context, address, ROLLOUTS, REQUESTS)[1])
        _back(context)
        _from_failing_to_back(context, address)
        races(context, address, RACES)
        _stop_and_start(context)


@contextmanager
def _site(project: Path) -> Iterator[tuple[steps.Context, str]]:
    """A project with three registered versions of a small model, behind a Traefik."""
    make_project(project, {"churn": CHURN})
    try:
        DockerEngine(EngineSettings(project / "home", project))
        engine = "docker"
    except EngineUnavailable as reason:
        engine = "process"
        print(f"process engine, because {reason}")
    change_params(project, "models.churn.rollout.engine", engine)
    os.environ |= {"PERENNIAL_PROJECT": str(project), "PERENNIAL_HOME": str(project / "home")}
    os.chdir(project)
    context = steps.Context.here()
    as_of = context.params.model("churn").as_of
    for day in (20, 21, 22):
        steps.retrain(context, f"bench/{day}", "churn", as_of.replace(month=2, day=day), "bench", False, lambda _: None)
    with router(project, project / "home") as at:
        os.environ |= {"PERENNIAL_ROUTER_URL": at.router, "PERENNIAL_ROUTER_API_URL": at.router_api}
        try:
            yield context, f"{at.router}/churn"
        finally:
            deploy.stop_all(context.rollout("bench").engines, 1)


def _deploy(context: steps.Context, version: str) -> Deployment | ShadowResult:
    return deploy.deploy(context.rollout("bench"), "churn", version, context.params.model("churn").rollout)


def hundred(context: steps.Context, address: str, rollouts: int, requests: int) -> tuple[Tally, dict[str, list[float]]]:
    """Versions 1 and 2 in turn; each tenth time a version that is never promoted runs beside them and gets copies.

    Returns the tally and the seconds of the rollouts. Raises AssertionError for a request that failed, or was answered by
    a version that had no part in the route then.
    """
    settings = context.params.model("churn").rollout
    _deploy(context, "1")
    times: dict[str, list[float]] = {"to_traffic_s": [], "switch_s": [], "ready_s": []}
    with steady_load(address, bodies(), pace=PACE) as tally:
        for turn in range(rollouts):
            told = _deploy(context, "21"[turn % 2])
            for key, values in times.items():
                values.append(getattr(told, key))
            if turn % 10 == 1:
                deploy.deploy(context.rollout("bench"), "churn", "3", settings, strategy="shadow")
        while tally.sent < requests and tally.failed == 0:
            time.sleep(0.5)
    wrong = strange(tally.answers, context.ledger.events(RouteMoving, RouteMoved, model="churn"))
    shadowed = context.ledger.events(ShadowEnded, model="churn")
    print(
        f"{rollouts} rollouts, {tally.sent:,} requests: {tally.failed} failed, {len(wrong)} by a version that had no part "
        f"in the route then, {len(shadowed)} times beside one that is never promoted"
    )
    assert tally.failed == 0, tally.failures[:3]
    assert wrong == []
    assert tally.sent >= requests
    assert shadowed
    return tally, times


def strange(answers: list[tuple[str, float, float]], moves: list[Entry]) -> list[tuple[str, float, float]]:
    """The answers (version, asked, answered) that came of no route that could have been Traefik's while they were under way.

    A route may be Traefik's from the moment in which it is to be written until the next one is known to be followed.
    """
    begun = [(_seconds(move), _answering(move.event)) for move in moves if isinstance(move.event, RouteMoving)]
    followed = [_seconds(move) for move in moves if isinstance(move.event, RouteMoved)]
    ends = [*followed[1:], float("inf")]
    starts = [start for start, _ in begun]

    def came_of_a_route(version: str, asked: float, answered: float) -> bool:
        last = bisect.bisect_right(starts, answered + CLOCK_S)
        for number in range(last - 1, -1, -1):
            if ends[number] < asked - CLOCK_S:
                return False
            if version in begun[number][1]:
                return True
        return False

    return [answer for answer in answers if not came_of_a_route(*answer)]


def _answering(move: RouteMoving) -> set[str | None]:
    """Who may answer by the route that is moved to; a shadow gets copies and answers nobody."""
    return {move.live, move.previous, None if move.mirror else move.to} - {None}


def _seconds(event: Entry) -> float:
    return datetime.fromisoformat(event.at).timestamp()


def _told(times: dict[str, list[float]]) -> None:
    for key, values in times.items():
        print(f"{key}: median {statistics.median(values):.2f} s, longest {max(values):.2f} s")


def _back(context: steps.Context) -> None:
    """Rollback from the command to all traffic on the predecessor, in a process of its own as a person runs it."""
    moved = []
    for _ in range(5):
        told = context.home / "points"
        told.unlink(missing_ok=True)
        env = os.environ | {"PERENNIAL_FAILPOINTS": str(told)}
        before = route_file.read(context.home, "churn")
        assert before is not None and before.previous is not None
        start = time.monotonic()
        command = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "rollback", "churn"], env=env, stdout=subprocess.DEVNULL
        )
        address = context.rollout("bench").address("churn")
        assert probe.wait_for_version(address, before.previous.version, 30)
        moved.append(time.monotonic() - start)
        assert command.wait() == 0
    print(f"rollback, from the command to the predecessor's answer: median {statistics.median(moved):.2f} s")
    start = time.monotonic()
    rollback.rollback(context.rollout("bench"), "churn", context.params.model("churn").rollout)
    print(f"rollback, by a process that runs already: {time.monotonic() - start:.2f} s with registry and ledger")


def _from_failing_to_back(context: steps.Context, address: str) -> None:
    """A slot that dies in its bake: from its death to the champion's having all traffic again."""
    change_params(context.project, "models.churn.rollout.bake_s", 20)
    live = route_file.read(context.home, "churn")
    assert live is not None
    other = {"1": "2", "2": "1"}[live.live.version]
    died: list[float] = []
    reach = failpoints.reach

    def die(name: str) -> None:
        # The first move only: the next one gives the champion its traffic back.
        if name == "after note route_moved" and not died:
            running = route_file.read(context.home, "churn")
            assert running is not None
            for engine in context.rollout("bench").engines.all():
                if engine.find("churn", running.live.slot):
                    died.append(time.monotonic())
                    engine.stop("churn", running.live.slot, 0)

    failpoints.reach = die
    try:
        with steady_load(address, bodies(), pace=PACE) as tally:
            try:
                deploy.deploy(
                    context.rollout("bench"), "churn", other, steps.Context.here().params.model("churn").rollout
                )
            except RolloutError as error:
                # Here, not after the load: its last requests take what they take.
                took, why = time.monotonic() - died[0], error
    finally:
        failpoints.reach = reach
    print(f"from a failing slot to rolled back: {took:.2f} s; {tally.sent:,} requests, {tally.failed} failed ({why})")
    assert tally.failed == 0, tally.failures[:3]
    change_params(context.project, "models.churn.rollout.bake_s", 1)


def races(context: steps.Context, address: str, count: int) -> None:
    """Two processes deploy two versions at once, `count` times: one wins each; the other is refused, or came when it had
    ended, or found its version live.

    Raises AssertionError for a race with another outcome, and for a request that failed.
    """
    change_params(context.project, "models.churn.rollout.bake_s", 0.1)
    refused = 0
    with ThreadPoolExecutor(2) as two, steady_load(address, bodies(), pace=100) as tally:
        for turn in range(count):
            began = len(context.ledger.events(RolloutStarted))
            versions = "123"[turn % 3], "123"[(turn + 1) % 3]
            codes = list(two.map(lambda v: commands.run(context.project, ["deploy", "churn", v]), versions))
            assert sorted(codes) in ([0, 0], [0, 1]), codes
            refused += 1 in codes
            events = context.ledger.events(RolloutStarted, RolloutEnded)[2 * began :]
            assert [e.kind for e in events] == ["rollout_started", "rollout_ended"] * (len(events) // 2)
            current = route_file.read(context.home, "churn")
            told = timeline.live_at(context.ledger, "churn")
            assert current is not None and told is not None and current.live.version in versions
            assert context.registry.champion("churn") == told["version"] == current.live.version
    assert tally.failed == 0, tally.failures[:3]
    change_params(context.project, "models.churn.rollout.bake_s", 1)
    print(
        f"{count} races of two deploys: a winner each, {refused} times the other was refused; {tally.sent:,} requests, 0 failed"
    )


def _stop_and_start(context: steps.Context) -> None:
    """One server, stopped and started again with the next version: what its users see."""
    port = free_port()
    package = str(context.registry.package_folder("churn", "1"))
    command = [sys.executable, "-m", "pipeline.serving", "--package", package, "--version", "1", "--slot", "blue"]
    command += ["--port", str(port)]
    address = f"http://127.0.0.1:{port}"

    def start() -> subprocess.Popen[bytes]:
        server = subprocess.Popen(command, cwd=context.project)
        while True:
            try:
                httpx.get(f"{address}/v2/health/ready")
                return server
            except httpx.HTTPError:
                time.sleep(0.02)

    server = start()
    with steady_load(address, bodies(), pace=PACE) as tally:
        for _ in range(5):
            time.sleep(1)
            server.terminate()
            server.wait()
            server = start()
    server.terminate()
    print(
        f"stop and start, 5 times: {tally.sent:,} requests, {tally.failed} failed, {tally.failed / 5:.0f} a deployment"
    )
