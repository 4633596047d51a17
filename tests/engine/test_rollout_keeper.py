"""A deploy that is killed on one machine is recovered by the service that is always there, without anybody's command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from harness.commands import run
from harness.ledgers import ledger_of
from harness.load import steady_load
from harness.project import BODY
from pipeline.context import Context
from pipeline.deployer.__main__ import _recover_cut_off
from pipeline.ledger.rollout_events import RolloutStarted
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.routing import route_file
from pipeline.settings.environment import Environment
from tests.support.endpoint import agreed, one_engine

# Not how long it should take, which the benchmark of rollouts measures, but when a test gives up.
LIMIT_S = 120


@pytest.fixture
def keeper(endpoint):
    """The service, as the Procfile starts it."""
    environment = os.environ | {"PERENNIAL_HOME": str(endpoint.home), "PERENNIAL_PROJECT": str(endpoint.project)}
    command = [sys.executable, "-m", "pipeline.services.rollout_keeper"]
    process = subprocess.Popen(command, cwd=endpoint.project, env=environment)
    yield process
    process.terminate()
    process.wait()


def until(condition) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.usefixtures("keeper")
def test_a_canary_that_is_killed_is_given_back_by_itself(endpoint):
    """A killed canary's share goes back, the predecessor is warm again, and no request fails meanwhile."""
    endpoint.set(canary_percent=50, bake_s=0.2, hold_s=60)
    for version in ("1", "2"):
        endpoint.deploy(version, "all-at-once")
    with steady_load(endpoint.address, BODY, pace=50) as tally:
        command = ["deploy", "churn", "3", "--strategy", "canary"]
        assert run(endpoint.project, command, PERENNIAL_FAIL_AT="after note route_moved#2") == -signal.SIGKILL
        assert route_file.read(endpoint.home, "churn").candidate.version == "3"
        until(lambda: route_file.read(endpoint.home, "churn").previous is not None)
        assert agreed(endpoint) == "2"
    assert (tally.failed, tally.failures) == (0, [])
    assert route_file.read(endpoint.home, "churn").previous.version == "1"


@one_engine
@pytest.mark.usefixtures("keeper")
def test_a_deploy_just_after_the_kill_waits_for_the_recovery(endpoint):
    """Who deploys again at once is not refused because of a recovery that nobody asked for."""
    endpoint.deploy("1", "all-at-once")
    for _ in range(2):
        command = ["deploy", "churn", "2", "--strategy", "all-at-once"]
        assert run(endpoint.project, command, PERENNIAL_FAIL_AT="after move route") == -signal.SIGKILL
        assert run(endpoint.project, ["deploy", "churn", "2", "--strategy", "all-at-once"]) == 0
        assert agreed(endpoint) == "2"
        assert run(endpoint.project, ["deploy", "churn", "1", "--strategy", "all-at-once"]) == 0


def test_the_deployer_recovers_what_was_cut_off_while_it_lives_on(tmp_path):
    """A rollout without an end, because the ledger was away for a while, is reconciled in the deployer's own process."""
    here = Environment.read({}).at(tmp_path, tmp_path)
    context = Context(here, ledger_of(tmp_path))
    with RolloutContext.of(here, context.ledger).leased("churn") as leased:
        leased.record(RolloutStarted(version="2"), "churn")
    asked, done = [], threading.Event()

    class Traffic:
        def reconcile(self, run, models):
            asked.append((run, models))
            done.set()
            return []

    threading.Thread(target=_recover_cut_off, args=(context, Traffic()), daemon=True).start()
    assert done.wait(LIMIT_S)
    assert asked[0] == ("deployer/start", ["churn"])
