"""What deployments and decisions to wait were worth, and how deployments go, on a history that is worked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.accounts import windows
from pipeline.accounts.account import account
from pipeline.accounts.money import as_float
from pipeline.accounts.slots import Size
from pipeline.accounts.statement import Terms
from pipeline.accounts.waits import BACKTEST, OTHER_CURRENCY, RECEIPT, UNSETTLED, said
from pipeline.cli.account_table import verdict
from pipeline.ledger.decision_events import Backtested
from pipeline.ledger.events import DriftChecked, RunOpened, StepEnded, VersionRegistered
from pipeline.ledger.receipt_events import RetrainDecided, WindowScored
from pipeline.ledger.rollout_events import (
    RollbackStarted,
    RolledBack,
    RolloutEnded,
    RolloutFailed,
    SlotEnded,
    SlotStarted,
)
from pipeline.ledger.store import Ledger
from pipeline.settings.accounts import Prices
from pipeline.settings.economics import Economics

PRICES = Prices(cpu_core_hour=3.6, memory_gb_hour=0, engineer_hour=60)
UNTIL = "2026-03-01T00:00:00.000Z"


def terms(value: float | None = 2.0, minutes: float = 10) -> Terms:
    stated = Economics(value=value, retrain_minutes=minutes)
    return Terms(PRICES, lambda model: stated, lambda model: Size(1, 1024), lambda model: "log_loss")


class Story:
    """A model's ledger: version 1 is live, version 2 follows on 1 February."""

    def __init__(self, folder) -> None:
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}")
        self.version("1", "01-01")
        self.version("2", "02-01")

    def note(self, event, at: str, run: str = "", step: str = "") -> None:
        self.ledger.append(event, "m", run, step, at=f"2026-{at}Z")

    def version(self, version: str, day: str) -> None:
        run, as_of = f"r{version}", f"2026-{day}T00:00:00+00:00"
        before = str(int(version) - 1)
        self.note(RunOpened(as_of=as_of, reason="drift"), f"{day}T01:00:00.000", run)
        self.note(StepEnded(state="success", wall_s=1, cpu_s=1000, peak_mb=1), f"{day}T01:30:00.000", run, "train")
        self.note(
            VersionRegistered(version=version, mlflow_run="x", data_version="d", as_of=as_of),
            f"{day}T01:30:00.000",
            run,
        )
        self.note(SlotStarted(version=version, slot=f"s{version}"), f"{day}T02:00:00.000")
        ended = RolloutEnded(
            version=version, slot=f"s{version}", digest=f"d{version}", previous=before, to_traffic_s=4.0
        )
        self.note(ended, f"{day}T02:00:00.000", run)
        if version != "1":
            self.note(SlotEnded(version=before, slot=f"s{before}"), f"{day}T04:00:00.000")

    def window(
        self, day: int, losses: dict[str, float], rows: int = 100, served: str = "d2", loss: str = "log_loss"
    ) -> None:
        start, end = (f"2026-02-{each:02d}T00:00:00+00:00" for each in (day, day + 7))
        scored = WindowScored(
            start=start, end=end, as_of=end, loss=loss, requests=rows, labelled=rows, losses=losses, served=served
        )
        self.note(scored, "02-28T00:00:00.000")

    def account(self, terms: Terms):
        return account(self.ledger, terms, "m", UNTIL)


@pytest.fixture
def story(tmp_path) -> Story:
    return Story(tmp_path)


def test_a_deployment_is_worth_its_gain_on_the_same_rows_minus_its_cost(story):
    """Gains of three windows, 20, 24 and 28, with Student's interval, against 18.20 for a step, a person and a second slot: it paid."""
    # Cost: 1000 processor seconds at 3.6 an hour are 1.00; 10 minutes at 60 an hour are 10.00; the first slot two hours beside it, 7.20.
    for day, gained in ((1, 0.10), (8, 0.12), (15, 0.14)):
        story.window(day, {"d1": 0.5 + gained, "d2": 0.5})
    first, second = story.account(terms()).deployments
    assert (first.verdict, first.gain) == ("the first version", None)
    assert as_float(second.cost) == pytest.approx(1.00 + 10.00 + 7.20)
    found = second.gain
    # 2.92 is Student's quantile at 0.95 with 2 degrees of freedom, 4 the gains' standard deviation.
    assert found.saved == pytest.approx(72)
    assert found.high - found.saved == pytest.approx(2.92 * 4 * 3**0.5, abs=0.01)
    assert (found.windows, found.rows, second.verdict) == (3, 300, "paid")
    assert second.as_dict()["net_low"] == pytest.approx(72 - 2.92 * 4 * 3**0.5 - 18.2, abs=0.01)


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([0.01, 0.012, 0.011], "did not pay"),
        ([-0.2, -0.19, -0.21], "did not pay"),
        ([0.3, -0.2, 0.1], "open"),
        ([0.4], "open"),
        ([], "no labels yet"),
    ],
)
def test_a_deployment_that_did_not_pay_is_told_so_and_luck_is_called_open(story, gains, verdict):
    """The whole interval must lie above the cost to have paid, and below it not to have; one window has no interval."""
    for i, gained in enumerate(gains):
        story.window(1 + 7 * i, {"d1": 0.5 + gained, "d2": 0.5})
    assert story.account(terms()).deployments[1].verdict == verdict


def test_windows_of_another_version_or_another_loss_do_not_count(story):
    """Only windows that the champion served, in the loss of today's economics, and with both versions, are counted."""
    story.window(1, {"d1": 0.7, "d2": 0.5}, served="d1")
    story.window(8, {"d2": 0.5})
    story.window(15, {"d1": 0.7, "d2": 0.5}, loss="brier")
    assert story.account(terms()).deployments[1].gain is None


def test_a_version_that_was_rolled_back_before_any_label_did_not_pay(story):
    """What a rollback left without a labelled window cost its money and earned nothing."""
    story.note(RollbackStarted(version="1", left="2"), "02-01T05:00:00.000")
    story.note(RolledBack(version="1", digest="d1", left="2", left_digest="d2"), "02-01T05:00:10.000")
    told = story.account(terms()).deployments[1].as_dict()
    assert (told["verdict"], told["worth"]) == ("did not pay", None)
    assert told["why"].startswith("rolled back at 2026-02-01T05:00")


@pytest.mark.parametrize(("stated", "guessed"), [({"retrain_minutes": 10}, ()), ({}, ("people",))])
def test_a_cost_names_the_parts_that_are_a_guess(story, stated, guessed):
    """Minutes that the settings state are theirs; a price of a guess under a cent is not worth a word."""
    found = story.account(replace(terms(), economics=lambda model: Economics(**stated))).deployments[1]
    assert (found.guessed, "guess" in verdict(found, "USD").split(":")[0]) == (guessed, bool(guessed))


def test_what_the_value_is_a_guess_of_is_said(story):
    """Without economics.value the worth is a guess, and says so."""
    story.window(1, {"d1": 0.7, "d2": 0.5})
    told = story.account(terms(value=None)).deployments[1].as_dict()
    assert told["known"]["value_of_a_unit"] == "guess"
    assert told["worth"] == pytest.approx(0.2 * 100 * 0.1)


def decided(day: str, **more) -> RetrainDecided:
    given = {"as_of": f"2026-02-{day}T00:00:00+00:00", "champion": "2", "digest": "d2", "rule": "value", "says": "wait"}
    return RetrainDecided(**given, decision="wait", why="", cost=24.0, ages={"2": 3}, **more)


BACKTESTED = {
    "start": "2025-01-01",
    "end": "2026-01-01",
    "window_days": 7.0,
    "windows": 52,
    "delay": 1,
    "compared_from": "2025-02-01",
    "loss": "log_loss",
    "recommendation": "",
    "best": "value",
    "tells": True,
    "curve": [
        {"age": 1, "excess": 0.01, "pairs": 9},
        {"age": 2, "excess": 0.05, "pairs": 8},
        {"age": 5, "excess": 0.9, "pairs": 2},
    ],
    "staleness": {"b": 0.1, "error": 0.02},
}


def test_a_decision_to_wait_is_judged_by_the_rows_after_it(story):
    """Waiting at age 3 loses the excess of age 2 on the rows of the next window: 0.05 x 100 x 2 = 10, less than a retrain."""
    story.note(Backtested(**BACKTESTED), "01-15T00:00:00.000")
    story.note(decided("08"), "02-08T06:00:00.000")
    story.window(8, {"d2": 0.5})
    (wait,) = story.account(terms()).waits
    assert (wait.lost, wait.basis, wait.verdict) == (pytest.approx(10), BACKTEST, "waiting paid")
    assert wait.high == pytest.approx(10 + 1.645 * 10 * 0.2)


def test_a_wait_is_judged_by_a_backtest_in_windows_of_another_length(story):
    """Waiting at an age of three weeks, 21 days, loses what was measured at 20: ten windows of two days, and not three."""
    curve = [{"age": age, "excess": 0.02 * age, "pairs": 9} for age in range(1, 20)]
    story.note(Backtested(**{**BACKTESTED, "window_days": 2.0, "curve": curve}), "01-15T00:00:00.000")
    story.note(decided("08"), "02-08T06:00:00.000")
    story.window(8, {"d2": 0.5})
    (wait,) = story.account(terms()).waits
    assert wait.lost == pytest.approx(0.2 * 100 * 2)


def test_a_wait_without_a_backtest_has_the_receipts_expectation_alone(story):
    """Without a backtest the account shows what the receipt expected, as a guess; and nothing where it expected nothing."""
    story.note(decided("08", saving=90.0, low=50.0, high=130.0), "02-08T06:00:00.000")
    story.note(decided("15"), "02-15T06:00:00.000")
    one, other = story.account(terms()).waits
    assert (one.basis, one.verdict, one.as_dict()["known"]) == (RECEIPT, UNSETTLED, "guess")
    assert other.verdict == UNSETTLED
    assert said([one, other], "EUR") == "decisions to wait: 2 (2 not settled: no backtest)"


def test_looks_of_one_window_are_settled_by_the_same_rows_which_count_once(story):
    """Two looks of a week wait for the next window; what both lost is one window's loss."""
    story.note(Backtested(**BACKTESTED), "01-15T00:00:00.000")
    story.note(decided("06"), "02-06T06:00:00.000")
    story.note(decided("08"), "02-08T06:00:00.000")
    story.window(8, {"d2": 0.5})
    waits = story.account(terms()).waits
    assert [wait.verdict for wait in waits] == ["waiting paid"] * 2
    assert "; over 1 window with labels waiting lost 10.00 EUR, by the newest backtest" in said(waits, "EUR")


def test_the_figures_of_deployments_are_those_of_the_events(story):
    """Lead time, frequency, failures, restore, rollback, staleness, minutes, incidents and drift come from the ledger's times."""
    story.note(StepEnded(state="failed", wall_s=1, cpu_s=1, peak_mb=1), "02-03T00:00:00.000", "r3", "check_gates")
    story.note(RolloutFailed(version="9", error="did not start"), "02-04T00:00:00.000")
    alarm = {"since": "2026-02-05T00:00:00+00:00", "start": "2026-02-04T22:00:00+00:00", "features": {}}
    story.note(
        DriftChecked(verdict="drift", reason="", champion="2", as_of=alarm["since"], alarm=alarm), "02-05T00:00:00.000"
    )
    story.version("3", "02-05")
    story.note(RollbackStarted(version="2", left="3"), "02-06T02:00:00.000")
    story.note(RolledBack(version="2", digest="d2", left="3", left_digest="d3"), "02-06T02:00:30.000")
    told = story.account(terms()).as_dict()
    figures = {name: figure["value"] for name, figure in told["figures"].items()}
    assert figures == pytest.approx(
        {
            "lead_time_s": 2 * 3600,
            "run_to_live_s": 3600,
            "deployments_a_week": 3 / ((58 + 22 / 24) / 7),
            "failed_share": 2 / 4,
            "restore_s": 86_430,
            "rollback_s": 30,
            "deploy_s": 4,
            # Version 1 was replaced at 31 days and 2 hours, 2 at 4 and 2, 3 at 1 day 2:00:30; today's is of 1 February.
            "staleness_days": (4 + 2 / 24 + 28) / 2,
            "engineer_minutes": 10,
            "stopped_by_a_gate": 1,
            "stopped_by_a_rollout": 1,
            "stopped_by_a_rollback": 1,
            "drift_latency_min": 120,
            "recovery_min": 120,
            "lifecycle_cost": told["bill"]["total"] / 3,
        }
    )
    assert told["figures"]["stopped_by_a_rollback"]["events"] == [story.ledger.events(RolledBack)[0].seq]
    assert [row["platform"] for row in told["platforms"]][1:] == ["MLflow (local)", "SageMaker", "Kubeflow", "Azure ML"]


def test_the_quantiles_that_are_written_down_are_scipys():
    """To the last digit, so that an interval does not depend on where its quantile comes from."""
    from scipy.special import stdtrit

    assert [float(stdtrit(n, windows.UPPER)) for n in range(1, len(windows.QUANTILES) + 1)] == list(windows.QUANTILES)


def test_a_rollout_that_was_rolled_back_is_one_failure(story):
    """A rollout that failed with all traffic is its rollback alone: one of three rollouts, one incident, and minutes of people once."""
    story.note(RolledBack(version="2", digest="d2", left="9", left_digest="d9"), "02-04T00:00:00.000")
    story.note(RolloutFailed(version="9", error="it burnt", rolled_back=True), "02-04T00:00:01.000")
    told = story.account(Terms(PRICES, lambda model: Economics(incident_minutes=30, retrain_minutes=0))).as_dict()
    figures = {name: figure["value"] for name, figure in told["figures"].items()}
    assert figures["failed_share"] == pytest.approx(1 / 3)
    assert (figures["stopped_by_a_rollout"], figures["stopped_by_a_rollback"]) == (0, 1)
    assert [part["quantity"] for part in told["bill"]["by_part"] if part["part"] == "people"] == [30]


def test_a_version_that_was_live_already_did_not_go_live_then(story):
    """A deploy of what is live begins no new life: the restore counts from the first one, and the rollback after it left that deployment."""
    story.note(RolloutEnded(version="2", slot="s2", digest="d2", previous="2", already_live=True), "02-03T00:00:00.000")
    story.note(RollbackStarted(version="1", left="2"), "02-04T01:59:30.000")
    story.note(RolledBack(version="1", digest="d1", left="2", left_digest="d2"), "02-04T02:00:00.000")
    told = story.account(terms()).as_dict()
    assert told["figures"]["restore_s"]["value"] == 3 * 86_400
    # Version 1 was replaced at 31 days and 2 hours, 2 at 3 and 2 hours; today's is of 1 January.
    assert told["figures"]["staleness_days"]["value"] == pytest.approx(31 + 2 / 24)
    assert [each["rolled_back_at"] for each in told["deployments"]] == [None, "2026-02-04T02:00:00.000Z"]


def test_a_wait_says_that_its_value_is_a_guess_and_what_it_costs_in_its_own_currency_alone(story):
    """Measured rows at a guessed value are a guess; a receipt in another currency than the prices' settles nothing."""
    story.note(Backtested(**BACKTESTED), "01-15T00:00:00.000")
    story.note(decided("08", currency="USD"), "02-08T06:00:00.000")
    story.note(decided("15", currency="EUR"), "02-15T06:00:00.000")
    story.window(8, {"d2": 0.5})
    same, other = story.account(terms(value=None)).waits
    assert (same.verdict, same.as_dict()["known"]) == ("waiting paid", "guess")
    assert (other.verdict, other.retrain_cost) == (OTHER_CURRENCY, None)
    assert said([same, other], "USD").endswith("at a value of a unit that is a guess")


def test_a_model_that_was_removed_is_judged_by_its_newest_loss_alone(story):
    """Losses of two units have no sum; where the newest is money, a unit is money though params.yaml has the model no more."""
    story.window(1, {"d1": 0.9, "d2": 0.5})
    story.window(8, {"d1": 0.7, "d2": 0.5}, loss="money abc123")
    told = account(story.ledger, Terms(PRICES), "m", UNTIL).as_dict()["deployments"][1]
    assert (told["windows"], told["worth"]) == (1, pytest.approx(0.2 * 100))
    assert told["known"]["value_of_a_unit"] == "yours"
