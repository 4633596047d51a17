"""A change of rollout.serving reaches every slot that can get traffic: real slots behind a real Traefik, on both engines."""

from __future__ import annotations

import hashlib
import time

import pandas as pd

from harness import rollouts
from harness.load import steady_load
from harness.project import BODY
from pipeline.context import Context
from pipeline.deployer.status import models_status
from pipeline.rollout.routing import route_file
from pipeline.rollout.slots import predictions_folder
from tests.support.endpoint import LIMIT_S, WIDE, agreed, answering, kill_slot, one_engine
from tests.support.required import EXHAUSTIVE

MINE, OLD, NEW = (hashlib.sha256(key.encode()).hexdigest() for key in ("mine", "old", "new"))


def codes(endpoint, key):
    """The status codes with that key: through the router, of the live slot, of its predecessor."""
    current = route_file.read(endpoint.home, "churn")
    slots = [s.address for s in (current.live, current.previous) if s is not None]
    return [rollouts.asked(address, key) for address in (endpoint.address, *slots)]


@one_engine
def test_keys_and_personal_columns_are_changed_under_load(endpoint):
    """Changes by a deploy of the live version fail no request, and no slot answers a revoked key afterwards."""
    endpoint.set(limits__p99_ms=5000, limits__error_rate=0.05)
    endpoint.deploy("1")
    endpoint.deploy("2")
    # With the first change a column becomes personal, and with the second it is no more.
    changes = 4 if EXHAUSTIVE else 2
    tally, _ = rollouts.settings_changes(Context.here(), endpoint.address, changes, pace=100)
    assert tally.failed == 0 and tally.sent > 200
    assert endpoint.slots() == sorted((s.slot, s.version) for s in route_file.read(endpoint.home, "churn").answering)


def test_a_revoked_key_stays_revoked_when_slots_are_killed_and_traffic_goes_back(endpoint):
    """After a key was revoked, failover, a killed slot, `reconcile` and `rollback` answer it nowhere."""
    endpoint.set(serving__api_keys=[MINE, OLD])
    endpoint.deploy("1")
    endpoint.deploy("2")
    endpoint.set(serving__api_keys=[MINE, NEW])
    assert codes(endpoint, "old") == [200, 200, 200]
    (before,) = models_status(Context.here(), "churn")
    assert "`perennial deploy churn 2` applies them" in before.note
    assert len(endpoint.deploy("2").changed) == 2
    assert codes(endpoint, "old") == [401, 401, 401] and codes(endpoint, "new") == [200, 200, 200]
    assert models_status(Context.here(), "churn")[0].note is None
    kill_slot(endpoint, route_file.read(endpoint.home, "churn").live.slot)
    until = time.monotonic() + LIMIT_S
    while (code := rollouts.asked(endpoint.address, "new")) != 200:
        assert time.monotonic() < until, code
    assert rollouts.asked(endpoint.address, "old") == 401
    endpoint.reconcile()
    assert codes(endpoint, "old") == [401, 401, 401]
    endpoint.set(serving__api_keys=[MINE])
    assert endpoint.rollback().version == "1"
    assert set(codes(endpoint, "new")) == {401} and set(codes(endpoint, "mine")) == {200}


@one_engine
def test_the_next_run_and_the_predecessor_log_no_column_that_has_become_personal(endpoint):
    """After a deploy with a new personal column neither the new version, nor the champion beside it, logs it in clear."""
    endpoint.deploy("1")
    endpoint.deploy("2")
    assert "plus" in logged(endpoint)
    endpoint.set(serving__personal={"plan": "drop"}, canary_percent=50, **WIDE)
    with steady_load(endpoint.address, BODY, pace=100) as tally:
        endpoint.deploy("3", "canary")
    assert tally.failed == 0 and {"2", "3"} <= set(tally.versions)
    began = time.time()
    assert agreed(endpoint) == "3"
    assert endpoint.rollback().warm
    assert agreed(endpoint) == "2"
    assert "plus" not in logged(endpoint, began)


def logged(endpoint, since: float = 0.0) -> str:
    """The prediction log's rows since then, as text, once the twenty requests of this function are among them."""
    answering(endpoint)
    folder, until = predictions_folder(endpoint.home, "churn"), time.monotonic() + LIMIT_S
    while True:
        files = [path for path in folder.rglob("*.parquet") if path.stat().st_mtime > since]
        rows = [pd.read_parquet(path) for path in files]
        if sum(map(len, rows)) >= 20:
            return " ".join(each.to_string() for each in rows)
        assert time.monotonic() < until, files
        time.sleep(0.1)
