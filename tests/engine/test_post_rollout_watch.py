"""When labels mature, a champion that is worse than its predecessor goes, without a failed request."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import pandas as pd
import pytest

from harness.load import steady_load
from harness.project import BODY, CHURN, change_params
from pipeline.context import Context
from pipeline.ledger.package_of_version import PackageOfVersion
from pipeline.ledger.rollout_events import AbortAsked, RolledBack, RolloutStarted
from pipeline.ledger.timeline import live_at
from pipeline.monitoring import live_quality
from pipeline.rollout.slots import predictions_folder
from pipeline.runs import post_rollout_watch as watching
from pipeline.runs.post_rollout_watch import watch
from tests.support.endpoint import FLIPPED, LIMIT_S

AS_OF = datetime(2024, 3, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _limits(endpoint):
    endpoint.set(limits__churn=1.0, limits__drift=1.0, limits__prediction_rate=1.0, watch_days=14)


def ask(endpoint, since):
    """Every customer seen from `since` on is asked about, as a user would, with key and time."""
    rows = pd.read_parquet(endpoint.project / "customers" / "all.parquet")
    rows = rows[(rows["seen_at"] >= since) & (rows["seen_at"] < AS_OF)].astype(object)
    rows["seen_at"] = [t.isoformat() for t in rows["seen_at"]]
    rows = rows.where(rows.notna(), None)
    records = rows[["customer", "seen_at", "spend", "calls", "plan"]].to_dict("records")
    for start in range(0, len(records), 100):
        body = json.dumps({"dataframe_records": records[start : start + 100]})
        assert httpx.post(f"{endpoint.address}/invocations", content=body).status_code == 200
    folder = predictions_folder(endpoint.home, "churn")
    until = time.monotonic() + LIMIT_S
    while live_quality.logged(folder) < len(records):
        assert time.monotonic() < until
        time.sleep(0.1)
    return len(records)


@pytest.mark.parametrize("endpoint", ["process"], indirect=True)
def test_a_champion_that_loses_on_mature_labels_is_rolled_back(endpoint):
    """A champion that is worse than its predecessor on matured labels is rolled back."""
    endpoint.deploy("1")
    endpoint.deploy(FLIPPED)
    asked = ask(endpoint, AS_OF - timedelta(days=10))
    early = watch(endpoint.context, "w", "churn", AS_OF - timedelta(days=9))
    assert (early.decision, early.rollback) == ("keep", None)
    with steady_load(endpoint.address, BODY, pace=100) as tally:
        result = watch(endpoint.context, "w", "churn", AS_OF)
    # The labels of the last two days are not known yet.
    assert 0.7 * asked < result.rows < asked, result
    compared = result.comparison
    assert (result.decision, compared.champion, compared.predecessor) == ("roll back", FLIPPED, "1")
    assert result.rollback.version == "1"
    assert (tally.failed, tally.failures) == (0, [])
    assert live_at(endpoint.context.ledger, "churn").version == "1"
    assert endpoint.context.registry.champion("churn") == "1"
    assert "labels have matured" in endpoint.context.ledger.events(RolledBack)[-1].body["reason"]


@pytest.mark.parametrize("endpoint", ["process"], indirect=True)
def test_a_champion_that_is_no_worse_stays(endpoint):
    """A champion that is no worse than its predecessor stays, and is not watched after watch_days."""
    assert watch(endpoint.context, "w", "churn", AS_OF).reason == "churn has no predecessor to compare with"
    endpoint.deploy("1")
    endpoint.deploy("2")
    ask(endpoint, AS_OF - timedelta(days=10))
    result = watch(endpoint.context, "w", "churn", AS_OF)
    assert (result.decision, result.rollback) == ("keep", None)
    assert result.rows > 300
    assert endpoint.live() == ("2", "green")
    endpoint.set(watch_days=0)
    late = watch(type(endpoint.context).here(), "w", "churn", AS_OF)
    assert late.reason == "version 2 has been live for more than 0 days"


@pytest.fixture
def losing(endpoint):
    """A champion that loses on matured labels."""
    endpoint.deploy("1")
    endpoint.deploy(FLIPPED)
    ask(endpoint, AS_OF - timedelta(days=10))
    return endpoint


@pytest.mark.parametrize("endpoint", ["process"], indirect=True)
def test_a_version_that_was_rolled_back_never_comes_back_by_itself(losing):
    """A version that an operator rolled back does not come back through the watch."""
    endpoint = losing
    endpoint.rollback()
    result = watch(endpoint.context, "w", "churn", AS_OF)
    assert (result.decision, result.reason) == ("keep", "churn has no predecessor to compare with")
    assert endpoint.live()[0] == "1"


@pytest.mark.parametrize("endpoint", ["process"], indirect=True)
def test_a_rollout_that_is_going_on_is_left_alone(losing):
    """The watch does nothing while a rollout is going on."""
    endpoint = losing
    with endpoint.context.rollout("another").leased("churn") as alone:
        result = watch(endpoint.context, "w", "churn", AS_OF)
        assert (result.decision, result.rollback) == ("keep", None)
        assert result.reason.endswith("but a rollout is going on, it is left alone")
        alone.record(RolloutStarted(version="2", slot="blue", strategy="canary", before=FLIPPED), "churn")
        result = watch(endpoint.context, "w", "churn", AS_OF)
        assert result.reason == "a rollout of churn is going on, it is left alone"
    assert endpoint.context.ledger.events(AbortAsked) == []
    assert endpoint.live()[0] == FLIPPED


@pytest.mark.parametrize("endpoint", ["process"], indirect=True)
def test_a_predecessor_whose_features_are_no_longer_logged_is_not_compared(losing):
    """A predecessor that needs a feature which is no longer logged is not compared, and the watch says why."""
    endpoint = losing
    settings = (endpoint.project / "params.yaml").read_text()
    try:
        change_params(endpoint.project, "models.churn.training.numeric", ["spend"])
        contract = {name: rule for name, rule in CHURN["gates"]["contract"]["columns"].items() if name != "calls"}
        change_params(endpoint.project, "models.churn.gates.contract.columns", contract)
        result = watch(Context.here(), "w", "churn", AS_OF)
    finally:
        (endpoint.project / "params.yaml").write_text(settings)
    assert result.decision == "keep"
    why = "version 1 needs calls, which requests no longer carry"
    assert result.reason == f"versions {FLIPPED} and 1 cannot be compared: {why}"


@pytest.mark.parametrize("endpoint", ["process"], indirect=True)
def test_each_look_goes_on_where_the_last_one_ended(losing):
    """A later look of the watch adds rows to those of the look before and does not reorder them."""
    endpoint = losing
    path = endpoint.project / "customers" / "all.parquet"
    kept, live = path.read_bytes(), live_at(endpoint.context.ledger, "churn")
    try:
        rows = pd.read_parquet(path)
        waits = pd.to_timedelta(np.random.default_rng(1).integers(0, 72, len(rows)), unit="h")
        rows.assign(decided_at=(rows["seen_at"] + waits).dt.as_unit("us")).to_parquet(path)
        early, late = (
            watching._losses(endpoint.context, "churn", live, PackageOfVersion("1"), at)[0]
            for at in (AS_OF - timedelta(days=2), AS_OF)
        )
    finally:
        path.write_bytes(kept)
    assert 100 < len(early) < len(late)
    assert list(late[: len(early)]) == list(early)
