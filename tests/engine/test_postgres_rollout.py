"""A rollout whose ledger is on Postgres."""

from __future__ import annotations

import pytest

from pipeline.context import Context
from pipeline.ledger.store import Ledger
from tests.support.endpoint import agreed


@pytest.mark.parametrize("endpoint", ["process"], indirect=True)
def test_versions_go_live_and_back(endpoint, shared):
    """Deploy, rollback and reconcile work with the ledger and its lease on Postgres."""
    endpoint.context = Context.here()
    endpoint.deploy("1")
    endpoint.deploy("2")
    assert endpoint.live()[0] == "2"
    endpoint.rollback()
    assert endpoint.reconcile() == []
    assert agreed(endpoint) == "1"
    kinds = [event.kind for event in Ledger(shared).events(model="churn")]
    assert kinds.count("rollout_started") == 2
    assert "rolled_back" in kinds
