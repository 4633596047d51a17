"""A decision is settled by the labels after it, in money, once."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.accounts import waits
from pipeline.accounts.statement import Terms
from pipeline.ledger.events import VersionRegistered
from pipeline.ledger.package_of_version import PackageOfVersion
from pipeline.ledger.receipt_events import DecisionSettled, RetrainDecided
from pipeline.ledger.rollout_events import RolloutEnded
from pipeline.pages import receipts
from pipeline.pages.receipts import SIDE, receipts_page, shown
from pipeline.policy.economics import Figure, Worth
from pipeline.policy.retraining.base import Known
from pipeline.runs import receipt_calibration
from pipeline.runs.decision_settlement import settle
from pipeline.runs.receipt_calibration import Calibration
from pipeline.runs.window_losses import KeptVersion, LiveHistory
from pipeline.settings.accounts import Prices

MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
DECIDED = MONDAY + 4 * WEEK
OLD, NEW = PackageOfVersion("1", "d1"), PackageOfVersion("2", "d2")
WORTH = Worth("log_loss", "EUR", *(Figure(value, "yours", "") for value in (0.5, 100, 1, 24, 5)))


def decided(decision="retrain", **more):
    given = {
        "as_of": DECIDED.isoformat(),
        "champion": "1",
        "digest": "d1",
        "rule": "value",
        "says": decision,
        "saving": 90.0,
        "ahead": 6,
    }
    return RetrainDecided(**given, decision=decision, why="", **more)


def history(gains, rows=100):
    """Version 2, trained at the look of the fifth week, loses `gains` less a row in each week from then on."""
    windows = 4 + len(gains)
    losses = np.full((2, windows), np.nan)
    losses[0] = 0.7
    losses[1, 4:] = 0.7 - np.array(gains)
    starts = tuple(MONDAY + i * WEEK for i in range(windows))
    known = Known(
        windows, losses, np.array([0, 4]), np.ones(windows), np.zeros(windows, int), 1, 1.0, np.zeros(windows + 1, bool)
    )
    kept = (KeptVersion(OLD, MONDAY), KeptVersion(NEW, DECIDED))
    return LiveHistory(known, kept, starts, np.full(windows, rows))


@pytest.fixture
def context(ledger, monkeypatch):
    monkeypatch.setattr(receipts, "with_kept_settings", lambda context: context)
    event = VersionRegistered(version="2", mlflow_run="m", data_version="d", as_of=DECIDED.isoformat())
    ledger.append(event, "churn")
    prices = Prices(cpu_core_hour=3.6, memory_gb_hour=0, engineer_hour=60, currency="EUR")
    params = SimpleNamespace(models={}, prices=prices, section_of=lambda name, kind, *keys: kind())
    return SimpleNamespace(ledger=ledger, params=params)


def test_what_was_expected_in_another_currency_is_compared_with_nothing(context):
    """Prices that are in euros now say nothing of a saving that was expected in dollars."""
    context.ledger.append(decided(currency="USD"), "churn")
    (event,) = settle(context, "r", "churn", history([0.2, 0.4, 0.2, 0.4]), WORTH)
    assert (event.currency, event.expected, event.paid) == ("EUR", None, "it paid")


def test_what_the_new_version_saved_is_told_in_money_beside_what_was_hoped_and_paid(context):
    """Gain a row x rows x the value of a unit, over the windows since, with an interval, once."""
    context.ledger.append(decided(), "churn")
    (event,) = settle(context, "r", "churn", history([0.2, 0.4, 0.2, 0.4]), WORTH)
    assert (event.version, event.instead, event.windows, event.cost, event.expected) == ("2", "1", 4, 30.0, 90.0)
    assert event.saved == pytest.approx(0.5 * 100 * 1.2)
    assert event.low < event.saved < event.high
    assert event.paid == "it paid"
    assert settle(context, "r", "churn", history([0.2] * 9), WORTH) == []
    assert len(context.ledger.events(DecisionSettled)) == 1


@pytest.mark.parametrize(
    ("gains", "said"),
    [([0.01, 0.02, 0.01, 0.02], "it did not pay"), ([0.9, -0.5, 0.8, -0.4], "whether it paid is open")],
)
def test_a_retrain_that_gained_less_than_it_cost_did_not_pay(context, gains, said):
    """Below the cost for certain it did not pay; where the interval holds the cost it is open."""
    context.ledger.append(decided(), "churn")
    (event,) = settle(context, "r", "churn", history(gains), WORTH)
    assert event.paid == said
    assert said in event.sentence()


def test_too_few_windows_a_wait_and_a_version_that_never_came_are_not_settled(context):
    """Nothing is settled by less than four windows, nor what nobody can know."""
    context.ledger.append(decided(), "churn")
    context.ledger.append(decided("wait"), "churn")
    assert settle(context, "r", "churn", history([0.2, 0.2, 0.2]), WORTH) == []
    other = decided().body() | {"as_of": (DECIDED - WEEK).isoformat()}
    context.ledger.append(RetrainDecided.read(other), "churn")
    assert [event.as_of for event in settle(context, "r", "churn", history([0.2] * 5), WORTH)] == [DECIDED.isoformat()]


def test_going_back_costs_nothing_and_is_settled_by_its_own_versions(context):
    """The version gone back to is compared with the one that was left, once it is live: a look that nobody followed saved nothing."""
    back = decided("go back", version="1", to_digest="d1").body() | {"champion": "2", "digest": "d2"}
    context.ledger.append(RetrainDecided.read(back | {"as_of": (DECIDED - WEEK).isoformat()}), "churn")
    context.ledger.append(RetrainDecided.read(back), "churn")
    for version in ("2", "1"):
        assert settle(context, "r", "churn", history([-0.1] * 6), WORTH) == []
        moved = {"version": version, "slot": "blue", "engine": "process", "digest": f"d{version}"}
        context.ledger.append(RolloutEnded.read(moved), "churn")
    (event,) = settle(context, "r", "churn", history([-0.1] * 6), WORTH)
    assert (event.version, event.instead, event.cost, event.as_of) == ("1", "2", 0.0, DECIDED.isoformat())
    assert event.saved == pytest.approx(0.5 * 100 * 0.6)


def test_receipts_are_compared_with_what_they_expected_by_then(context):
    """With the share of the expectation that falls on the settled windows; the page draws it against what was saved, with its interval."""
    assert receipt_calibration.calibration(context.ledger, "churn").sentence() == ""
    context.ledger.append(decided(), "churn")
    settle(context, "r", "churn", history([0.2, 0.4, 0.2, 0.4]), WORTH)
    found = receipt_calibration.calibration(context.ledger, "churn")
    assert (found.expected, found.saved) == (pytest.approx(60), pytest.approx(60))
    assert found.sentence() == (
        "1 decision settled, 1 paid; 1 expected 60.00 EUR by then and saved 60.00, 1.00 times what they expected; 1 as expected within the interval"
    )
    page = receipts_page(context, "churn")
    (point,) = re.findall(r'<circle cx="([0-9.]+)" cy="([0-9.]+)"', page)
    assert float(point[0]) == pytest.approx(SIDE - float(point[1]), abs=0.2), "on the diagonal"
    assert "60.00 expected, 60.00 saved" in page
    without = dict(context.ledger.events(DecisionSettled)[0].body, ahead=None)
    old = receipt_calibration.Calibration((DecisionSettled.read(without),))
    assert old.sentence() == "1 decision settled, 1 paid"
    wide = DecisionSettled.read(without | {"low": -90.0, "high": 200.0})
    assert receipt_calibration.Calibration((wide,)).sentence() == "1 decision settled, 0 paid, 1 open"
    assert "<circle" not in shown("churn", old)
    assert "No retrain and no way back is settled yet" in receipts_page(context, "other")


def test_the_page_of_receipts_has_the_waits_as_the_account_settles_them(context):
    """Without a backtest a wait is not settled, and it is said."""
    context.ledger.append(decided("wait"), "churn")
    (wait,) = waits.of_model(context.ledger, Terms.of(context.params), "churn")
    page = receipts_page(context, "churn")
    assert "Decisions to wait: 1 (1 not settled: no backtest)" in page and f"<td>{wait.verdict}</td>" in page


def test_a_page_of_receipts_leads_to_the_older_ones_and_tells_of_all(monkeypatch):
    """The table has the newest, the sentence is about all that is settled, and an older page leads back."""
    monkeypatch.setattr(receipts, "SHOWN", 2)
    values = {
        "decision": "retrain",
        "instead": "1",
        "windows": 4,
        "saved": 9.0,
        "low": 8.0,
        "high": 10.0,
        "cost": 1.0,
        "currency": "USD",
    }
    found = Calibration(tuple(DecisionSettled(as_of=f"2024-0{n}-01", version=str(n), **values) for n in range(1, 6)))
    first, last = shown("m", found), shown("m", found, skip=4)
    assert "5 decisions settled" in first and first.count("2024-0") == 2 and 'href="?skip=2">older' in first
    assert "2024-01-01" in last and "older</a>" not in last and ">newest</a>" in last
