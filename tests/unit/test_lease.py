"""One holder at a time; one that sleeps through its lease is refused; one that is killed is not waited for long."""

import time

import pytest

from pipeline.errors import RolloutError
from pipeline.ledger import lease


def test_one_holder_at_a_time_and_each_has_a_larger_number(ledger):
    """A lease has one holder at a time, and each next holder gets a larger token."""
    with lease.held(ledger, "churn") as first:
        assert lease.take(ledger, "churn", "another") is None
        with lease.held(ledger, "loyal"):
            pass
        first.check()
    with lease.held(ledger, "churn") as second:
        assert second.token == first.token + 1
        with pytest.raises(RolloutError, match=r"overtaken by process \d+ from "):
            first.check()
        assert not first.renew()
        first.release()
        second.check()


def test_a_lease_that_is_no_models_is_recovered_by_nobody(ledger):
    """Who looks for rollouts that were cut off is told of models alone; before any lease there is no holder."""
    assert lease.holder(ledger, "data of the DVC remote") is None
    with lease.held(ledger, "data of the DVC remote"), lease.held(ledger, "churn"):
        assert lease.holders(ledger).keys() == {"churn"}
        assert lease.holder(ledger, "data of the DVC remote").is_alive


def test_it_is_waited_for(ledger):
    """A lease that is held is waited for as long as wait_s, then refused."""
    with lease.held(ledger, "churn"), pytest.raises(RolloutError, match="another rollout of it is going on"):
        start = time.monotonic()
        with lease.held(ledger, "churn", wait_s=0.4):
            pass
    assert time.monotonic() - start >= 0.4


def test_it_outlives_its_time_while_it_is_renewed(ledger, monkeypatch):
    """A lease lasts longer than HELD_S while its holder renews it."""
    monkeypatch.setattr(lease, "HELD_S", 0.3)
    with lease.held(ledger, "churn") as mine:
        time.sleep(1.0)
        assert lease.take(ledger, "churn", "another") is None
        mine.check()


def test_one_that_is_not_renewed_falls_to_the_next(ledger, monkeypatch):
    """A lease that is not renewed goes to the next, and its old holder is refused."""
    monkeypatch.setattr(lease, "HELD_S", 0.2)
    asleep = lease.take(ledger, "churn", "asleep")
    time.sleep(0.3)
    with lease.held(ledger, "churn") as awake:
        assert awake.token == asleep.token + 1
        with pytest.raises(RolloutError, match="overtaken"):
            asleep.check()
