"""Rollouts under load and races of two deploys, with what must hold of them: tests run a few, the benchmark all."""

from __future__ import annotations

import bisect
import hashlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime

import httpx

from demo.replay import Tally
from harness import commands
from harness.load import steady_load
from harness.project import BODY, bodies, change_params
from pipeline.context import Context
from pipeline.ledger import lease, timeline
from pipeline.ledger.rollout_events import RolloutEnded, RolloutStarted, RouteMoved, RouteMoving, ShadowEnded
from pipeline.ledger.store import Entry
from pipeline.rollout import deploy
from pipeline.rollout.recovery import open_rollout
from pipeline.rollout.results import Deployment, ShadowResult
from pipeline.rollout.routing import route_file

PACE = 450.0
# The ledger tells milliseconds.
CLOCK_S = 0.005
RECOVERY_LIMIT_S = 120.0


def deploy_version(context: Context, version: str) -> Deployment | ShadowResult:
    return deploy.deploy(context.rollout("harness"), "churn", version, context.params.model("churn").rollout)


def hundred(
    context: Context, address: str, rollouts: int, requests: int, pace: float = PACE
) -> tuple[Tally, dict[str, list[float]]]:
    """Versions 1 and 2 in turn; each tenth time a version that is never promoted runs beside them and gets copies.

    Returns the tally and the seconds of the rollouts. Raises AssertionError for a request that failed, or was answered by
    a version that had no part in the route then.
    """
    settings = context.params.model("churn").rollout
    deploy_version(context, "1")
    times: dict[str, list[float]] = {"to_traffic_s": [], "switch_s": [], "ready_s": []}
    with steady_load(address, bodies(), pace) as tally:
        for turn in range(rollouts):
            told = deploy_version(context, "21"[turn % 2])
            for key, values in times.items():
                values.append(getattr(told, key))
            if turn % 10 == 1:
                deploy.deploy(context.rollout("harness"), "churn", "3", settings, strategy="shadow")
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


def settings_changes(context: Context, address: str, changes: int, pace: float = PACE) -> tuple[Tally, list[float]]:
    """Changes API keys and personal columns `changes` times under load, each time by a deploy of the live version.

    Returns the tally and the seconds of the changes. Raises AssertionError for a request that failed, and for a slot that
    answers a revoked key, or refuses a new one, after a deploy has returned.
    """
    serving = "models.churn.rollout.serving"

    def change(key: str, personal: dict[str, str]) -> None:
        change_params(context.project, f"{serving}.api_keys", [_digest("mine"), _digest(key)])
        change_params(context.project, f"{serving}.personal", personal)
        deploy_version(Context.here(), "2")

    # The load has its key before and after each change: what it asks may never be refused.
    change("key 0", {})
    durations = []
    with steady_load(address, bodies(), pace, "mine") as tally:
        for number in range(1, changes + 1):
            started = time.monotonic()
            change(f"key {number}", {"plan": "hash"} if number % 2 else {})
            durations.append(time.monotonic() - started)
            current = route_file.read(context.home, "churn")
            assert current is not None and current.previous is not None
            for at in (address, current.live.address, current.previous.address):
                assert asked(at, "mine") == asked(at, f"key {number}") == 200, at
                assert asked(at, f"key {number - 1}") == asked(at, "") == 401, at
        time.sleep(1)
    change_params(context.project, f"{serving}.api_keys", [])
    change_params(context.project, f"{serving}.personal", {})
    deploy_version(Context.here(), "2")
    assert tally.failed == 0, tally.failures[:3]
    return tally, durations


def killed_deploys(context: Context, address: str, kills: int, pace: float = PACE) -> tuple[Tally, list[float]]:
    """Kills a deploy from the command line at `kills` random moments under load; the service `rollouts` recovers each.

    Returns the tally and the seconds from each kill to the end of its recovery. Raises AssertionError for a request that failed, and
    when route, registry and ledger do not agree on the live version afterwards.
    """
    draw = random.Random(20)
    change_params(context.project, "models.churn.rollout.bake_s", 0.2)
    deploy_version(Context.here(), "1")
    # The first command waits for the imports of what forks it: of that time most kills would come when a deploy has long ended.
    assert commands.run(context.project, ["status", "churn"]) == 0
    started = time.monotonic()
    assert commands.run(context.project, ["deploy", "churn", "2"]) == 0
    whole_s, recoveries = time.monotonic() - started, list[float]()
    with _rollout_keeper(context), steady_load(address, bodies(), pace) as tally:
        while len(recoveries) < kills:
            current = route_file.read(context.home, "churn")
            assert current is not None
            other = "2" if current.live.version == "1" else "1"
            if not commands.killed(context.project, ["deploy", "churn", other], draw.uniform(0, whole_s)):
                continue
            started = time.monotonic()
            while _is_cut_off(context):
                assert time.monotonic() - started < RECOVERY_LIMIT_S
                time.sleep(0.05)
            recoveries.append(time.monotonic() - started)
            route = route_file.read(context.home, "churn")
            assert route is not None and route.candidate is None
            live = timeline.live_version(context.ledger, "churn")
            assert context.registry.champion("churn") == live == route.live.version
    assert tally.failed == 0, tally.failures[:3]
    change_params(context.project, "models.churn.rollout.bake_s", 1)
    return tally, recoveries


@contextmanager
def _rollout_keeper(context: Context) -> Iterator[None]:
    """The service of `make up` that recovers what was cut off."""
    process = subprocess.Popen([sys.executable, "-m", "pipeline.services.rollout_keeper"], cwd=context.project)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _is_cut_off(context: Context) -> bool:
    """Whether the killed deploy's lease or its rollout is still as it left them."""
    holder = lease.holders(context.ledger)["churn"]
    return bool(holder.name) or open_rollout(context.ledger, "churn") is not None


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def asked(address: str, key: str) -> int:
    """The status code of one prediction with that API key; without one for ''."""
    headers = {"x-api-key": key} if key else {}
    return httpx.post(f"{address}/invocations", content=BODY, headers=headers, timeout=60).status_code


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


def races(context: Context, address: str, count: int) -> None:
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
            live = timeline.live_version(context.ledger, "churn")
            assert current is not None and current.live.version in versions
            assert context.registry.champion("churn") == live == current.live.version
    assert tally.failed == 0, tally.failures[:3]
    change_params(context.project, "models.churn.rollout.bake_s", 1)
    print(
        f"{count} races of two deploys: a winner each, {refused} times the other was refused; {tally.sent:,} requests, 0 failed"
    )
