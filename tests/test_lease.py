"""One holder at a time; one that sleeps through its lease is refused; one that is killed is not waited for long."""

import multiprocessing
import time

import pytest

from pipeline.errors import RolloutError
from pipeline.ledger import lease
from pipeline.ledger.table import open_ledger


def test_one_holder_at_a_time_and_each_has_a_larger_number(ledger):
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


def test_it_is_waited_for(ledger):
    with lease.held(ledger, "churn"), pytest.raises(RolloutError, match="another rollout of it is going on"):
        start = time.monotonic()
        with lease.held(ledger, "churn", wait_s=0.4):
            pass
    assert time.monotonic() - start >= 0.4


def test_it_outlives_its_time_while_it_is_renewed(ledger, monkeypatch):
    monkeypatch.setattr(lease, "HELD_S", 0.3)
    with lease.held(ledger, "churn") as mine:
        time.sleep(1.0)
        assert lease.take(ledger, "churn", "another") is None
        mine.check()


def test_one_that_is_not_renewed_falls_to_the_next(ledger, monkeypatch):
    monkeypatch.setattr(lease, "HELD_S", 0.2)
    asleep = lease.take(ledger, "churn", "asleep")
    time.sleep(0.3)
    with lease.held(ledger, "churn") as awake:
        assert awake.token == asleep.token + 1
        with pytest.raises(RolloutError, match="overtaken"):
            asleep.check()


def _race(home, start, won):
    start.wait()
    if lease.take(open_ledger(home), "churn", "racer") is not None:
        won.put(1)


def test_races_have_one_winner_each(tmp_path):
    """Two processes at once, many times; the number grows by one each time."""
    context = multiprocessing.get_context("fork")
    ledger = open_ledger(tmp_path)
    for number in range(1, 51):
        start, won = context.Event(), context.Queue()
        racers = [context.Process(target=_race, args=(tmp_path, start, won)) for _ in range(2)]
        for racer in racers:
            racer.start()
        start.set()
        for racer in racers:
            racer.join()
        assert won.get() == 1
        assert won.empty()
        with ledger.writing() as connection:
            row = connection.execute(lease.LEASES.select()).one()
            assert row.token == number
            connection.execute(lease.LEASES.update().values(until=0.0))
