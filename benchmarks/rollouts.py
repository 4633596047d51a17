"""A hundred rollouts under steady load: no request may fail (asserted); how long the moves of the route take is printed.

The alternative beside it: a single server that is stopped and started again with the new version.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks import live
from harness import rollouts
from harness.load import steady_load
from harness.project import bodies, change_params
from pipeline.context import Context
from pipeline.errors import RolloutError
from pipeline.rollout import deploy, failpoints, probe, rollback
from pipeline.rollout.routing import route_file
from pipeline.settings.net import free_port

ROLLOUTS, REQUESTS = 100, 100_000
RACES = 200
SETTINGS_CHANGES = 20
KILLS = 20


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = live.trained(Path(folder) / "project", 3)
        with live.behind_traefik(project, live.engines(project)[0]) as (context, address):
            _print_durations(rollouts.hundred(context, address, ROLLOUTS, REQUESTS)[1])
            _time_rollback(context)
            _time_failing_slot(context, address)
            rollouts.races(context, address, RACES)
            _change_settings(context, address)
            _kill_deploys(context, address)
            _stop_and_start(context)


def _print_durations(times: dict[str, list[float]]) -> None:
    for key, values in times.items():
        print(f"{key}: median {statistics.median(values):.2f} s, longest {max(values):.2f} s")


def _time_rollback(context: Context) -> None:
    """Times a rollback from the command, in a process of its own as a person runs it, to all traffic on the predecessor."""
    durations = []
    for _ in range(5):
        failpoints_log = context.home / "points"
        failpoints_log.unlink(missing_ok=True)
        env = os.environ | {"PERENNIAL_FAILPOINTS": str(failpoints_log)}
        before = route_file.read(context.home, "churn")
        assert before is not None and before.previous is not None
        start = time.monotonic()
        command = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "rollback", "churn"], env=env, stdout=subprocess.DEVNULL
        )
        address = context.rollout("bench").address("churn")
        assert probe.wait_for_version(address, before.previous.version, 30)
        durations.append(time.monotonic() - start)
        assert command.wait() == 0
        # A version that was rolled back comes back by its number only.
        deploy.deploy(context.rollout("bench"), "churn", before.live.version, context.params.model("churn").rollout)
    print(f"rollback, from the command to the predecessor's answer: median {statistics.median(durations):.2f} s")
    start = time.monotonic()
    rollback.rollback(context.rollout("bench"), "churn", context.params.model("churn").rollout)
    print(f"rollback, by a process that runs already: {time.monotonic() - start:.2f} s with registry and ledger")


def _time_failing_slot(context: Context, address: str) -> None:
    """Times the way from the death of a slot in its bake until the champion has all traffic again."""
    change_params(context.project, "models.churn.rollout.bake_s", 20)
    current = route_file.read(context.home, "churn")
    assert current is not None
    other = {"1": "2", "2": "1"}[current.live.version]
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
        with steady_load(address, bodies(), pace=rollouts.PACE) as tally:
            try:
                deploy.deploy(context.rollout("bench"), "churn", other, Context.here().params.model("churn").rollout)
            except RolloutError as error:
                # Measured here and not after the load, which waits for its last requests.
                duration, why = time.monotonic() - died[0], error
    finally:
        failpoints.reach = reach
    print(
        f"from a failing slot to rolled back: {duration:.2f} s; {tally.sent:,} requests, {tally.failed} failed ({why})"
    )
    assert tally.failed == 0, tally.failures[:3]
    change_params(context.project, "models.churn.rollout.bake_s", 1)


def _change_settings(context: Context, address: str) -> None:
    """Changes keys and personal columns of the live version and its predecessor under load."""
    rollouts.deploy_version(context, "1")
    rollouts.deploy_version(context, "2")
    tally, seconds = rollouts.settings_changes(context, address, SETTINGS_CHANGES)
    print(
        f"{SETTINGS_CHANGES} changes of keys and personal columns: median {statistics.median(seconds):.2f} s until both slots have "
        f"them, longest {max(seconds):.2f} s; {tally.sent:,} requests, {tally.failed} failed, no revoked key answered"
    )


def _kill_deploys(context: Context, address: str) -> None:
    """Kills deploys at random moments under load; nobody calls `reconcile`."""
    tally, seconds = rollouts.killed_deploys(context, address, KILLS)
    print(
        f"{KILLS} deploys killed at random moments: median {statistics.median(seconds):.2f} s until all is as it was or as it should "
        f"be, longest {max(seconds):.2f} s; {tally.sent:,} requests, {tally.failed} failed"
    )


def _stop_and_start(context: Context) -> None:
    """Counts the failed requests of one server that is stopped and started again with the next version."""
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
    with steady_load(address, bodies(), pace=rollouts.PACE) as tally:
        for _ in range(5):
            time.sleep(1)
            server.terminate()
            server.wait()
            server = start()
    server.terminate()
    print(
        f"stop and start, 5 times: {tally.sent:,} requests, {tally.failed} failed, {tally.failed / 5:.0f} a deployment"
    )
