"""The page of all models: a line each, from the ledger and the settings alone."""

import csv
import io
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
import yaml

from harness.project import CHURN, ROOT
from pipeline.context import Context
from pipeline.ledger.events import DriftChecked, StepEnded, VersionRegistered
from pipeline.ledger.freeze_events import Frozen
from pipeline.ledger.receipt_events import DecisionSettled
from pipeline.ledger.rollout_events import RolloutEnded
from pipeline.ledger.slo_events import BudgetBurning, BudgetCalm
from pipeline.ledger.store import Ledger
from pipeline.pages import portfolio
from pipeline.pages.kept_settings import with_kept_settings
from pipeline.settings.models import load
from tests.support.decision_bodies import SETTLED
from tests.support.slo_bodies import SLO_BODIES

NOW = datetime(2024, 3, 20, 12, tzinfo=UTC)


@pytest.fixture
def context(tmp_path):
    """Three models: one that is live and burns, one that is frozen and not live, and one with a broken block."""
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings["prices"] |= {"currency": SETTLED["currency"]}
    scheduled = CHURN | {"schedule": {"cron": "0 6 * * 1", "start": "2024-01-01T00:00:00Z"}}
    settings["models"] = {"live-one": scheduled, "cold": CHURN, "odd": CHURN | {"gates": {"metric_limt": 1}}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    environment = SimpleNamespace(project=tmp_path, home=tmp_path, params_read=None)
    version = {"mlflow_run": "r", "data_version": "d", "code_revision": "c", "alias": "champion"}
    ledger.append(VersionRegistered(version="1", as_of="2024-03-10T12:00:00+00:00", **version), "live-one")
    ended = RolloutEnded.read({"version": "1", "slot": "blue", "engine": "process", "wall_s": 1.0, "digest": "d"})
    ledger.append(ended, "live-one", at="2024-03-11T00:00:00.000Z")
    look = DriftChecked(verdict="drift", reason="x", champion="1", as_of="2024-03-19T00:00:00+00:00")
    ledger.append(look, "live-one")
    ledger.append(BudgetBurning.read(dict(SLO_BODIES)["budget_burning"]), "live-one")
    step = StepEnded(state="success", wall_s=60.0, cpu_s=36_000.0, peak_mb=0.0)
    ledger.append(step, "live-one", "r", "train", at="2024-03-12T00:00:00.000Z")
    ledger.append(step, "live-one", "q", "train", at="2024-02-12T00:00:00.000Z")
    for currency in (SETTLED["currency"], "another"):
        settled = DecisionSettled.read({**SETTLED, "currency": currency})
        ledger.append(settled, "live-one", at="2024-03-13T00:00:00.000Z")
    ledger.append(Frozen(reason="it is Christmas", until="", by="ann"), "cold")
    return Context(environment, ledger, lambda: NOW)


def test_each_model_has_a_line_with_what_the_ledger_says_of_it(context):
    """A model has its state, version, age, health, look, next run, and what this month cost and earned; a broken block has its line."""
    cold, live, odd = portfolio.lines(context)
    assert (cold["model"], cold["state"], cold["version"]) == ("cold", "frozen", None)
    assert (odd["state"], odd["next_run"]) == ("broken block", None)
    assert (live["state"], live["version"], live["age_days"], live["drift"]) == ("live", "1", 10.0, "drift")
    assert live["next_run"] == "2024-03-25T06:00:00+00:00"
    assert live["health"] == BudgetBurning.read(dict(SLO_BODIES)["budget_burning"]).sentence()
    price = context.params.prices.cpu_core_hour
    assert live["cost_this_month"] == pytest.approx(10 * price), (
        "ten hours in March, and those of February are another month's"
    )
    assert live["worth_this_month"] == SETTLED["saved"] - SETTLED["cost"], "what is in another currency has no sum"
    context.ledger.append(BudgetCalm.read(dict(SLO_BODIES)["budget_calm"]), "live-one")
    assert portfolio.lines(context)[1]["health"] == "no objectives (slo)", (
        "a model without the section promises nothing"
    )


def test_it_is_a_page_and_a_file(context):
    """The page has a row for each model, and the CSV has the same cells under a header."""
    page = portfolio.portfolio_page(context)
    assert page.count("<tr>") == 1 + 3
    assert "0.48 EUR" in page and 'href="card/live-one/1"' in page
    rows = list(csv.DictReader(io.StringIO(portfolio.table(context).csv())))
    assert [row["model"] for row in rows] == ["cold", "live-one", "odd"]
    assert rows[1]["version"] == "1" and rows[0]["version"] == ""


def test_settings_are_checked_anew_once_their_file_changes(context):
    """While params.yaml has the same bytes the next page takes the blocks that were checked; a changed one is seen at once."""
    first = with_kept_settings(context).params
    assert with_kept_settings(context).params is first
    path = context.project / "params.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["models"]["cold"] = CHURN | {"team": "growth"}
    path.write_text(yaml.safe_dump(settings | {"teams": {"growth": {"slots": 1}}}))
    later = Context(context.environment, context.ledger, lambda: NOW)
    assert [line["team"] for line in portfolio.lines(later)] == ["growth", None, None]


def test_settings_that_change_while_they_are_read_are_not_kept(context, monkeypatch):
    """A file that was changed and changed back while a page read it is read anew by the next page."""
    before = (context.project / "params.yaml").read_text()

    def changing(root, memory=None):
        (root / "params.yaml").write_text(before.replace("cold", "warm"))
        found = load(root)
        monkeypatch.setattr("pipeline.settings.models.load", load)
        return found

    monkeypatch.setattr("pipeline.settings.models.load", changing)
    read = set(with_kept_settings(Context(context.environment, context.ledger, lambda: NOW)).params.models)
    (context.project / "params.yaml").write_text(before)
    again = with_kept_settings(Context(context.environment, context.ledger, lambda: NOW)).params
    assert "warm" in read and "cold" in again.models
