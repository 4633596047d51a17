"""A look's decision: the model's rule, its guards, and the receipt in the ledger."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.project import change_params
from pipeline.cli import decision_table
from pipeline.errors import RegistryError
from pipeline.ledger.budget_events import BudgetLooked
from pipeline.ledger.decision_events import Backtested
from pipeline.ledger.events import DriftChecked, GatesChecked, VersionRegistered
from pipeline.ledger.freeze_events import Frozen, Unfrozen
from pipeline.ledger.receipt_events import RetrainDecided
from pipeline.ledger.rollout_events import RolloutEnded
from pipeline.ledger.store import Ledger
from pipeline.rollout.slots import predictions_folder
from pipeline.runs import retrain_decision
from tests.support.deciding import YEAR, decide, getting_worse, rule
from tests.support.monitored import AS_OF

LOOK = {
    "decision": "retrain",
    "verdict": "drift",
    "said": "spend moved",
    "as_of": AS_OF.isoformat(),
    "since": "s",
    "receipt": {"would_flip": "calm"},
}


@pytest.fixture
def world(project, ledger, churn_artifacts, tmp_path, monkeypatch):
    return getting_worse(project, ledger, churn_artifacts, tmp_path, monkeypatch)


def test_by_value_a_version_that_gets_worse_is_retrained_once_that_costs_more_than_a_retrain(world):
    """The receipt has the losses by week, the cost with its parts, what others would do; a look that is repeated says the same."""
    rule(world, "value")
    receipt = decide(world)
    assert (receipt.decision, receipt.rule, receipt.guards) == ("retrain", "value", ())
    assert receipt.score >= receipt.limit > 0
    losses = [week["by_version"]["1"] for week in receipt.losses]
    assert losses == sorted(losses) and len(losses) >= 6
    assert receipt.cost == pytest.approx(
        sum(receipt.economics[part]["value"] for part in ("machine", "people", "risk"))
    )
    assert set(receipt.others) == {"metric", "forecast", "schedule", "drift"}
    assert receipt.why and receipt.flips
    assert decide(world) == receipt
    assert len(world.ledger.events(RetrainDecided, model="churn")) == 1
    early = decide(world, YEAR + timedelta(days=24))
    assert early.decision == "wait" and early.score < early.limit


def test_a_look_of_before_the_live_version_says_what_was_live_then(world):
    """None, or the one of before; it waits, and a look that is repeated is in the ledger once."""
    rule(world, "value")
    early = YEAR - timedelta(days=3)
    assert decide(world, early).why == (
        "version 1, which is live now, was trained as of 2024-01-01, after this look; no version was live then"
    )
    assert decide(world, early).decision == "wait"
    event = VersionRegistered(version="2", mlflow_run="m", data_version="d", as_of=AS_OF.isoformat())
    world.ledger.append(event, "churn")
    world.live("2", "2024-03-02T00:00:00+00:00")
    second = decide(world, AS_OF - timedelta(days=1))
    assert second.why.endswith("after this look; version 1, trained as of 2024-01-01, was the newest then")
    assert [e.event.as_of[:10] for e in world.ledger.events(RetrainDecided, model="churn")] == [
        "2023-12-29",
        "2024-02-29",
    ]


def test_a_version_that_stays_as_good_is_not_retrained(world):
    """Nothing is lost, so nothing pays, however old it is."""
    rule(world, "value")
    world.right["1"] = lambda weeks: 0.8
    assert decide(world).decision == "wait"


def test_by_drift_the_look_decides_and_the_other_rules_are_told(world):
    """The rule `drift` takes the look's decision and reason as they are."""
    rule(world, "drift")
    receipt = decide(world, look=LOOK)
    assert (receipt.rule, receipt.decision, receipt.why, receipt.flips) == ("drift", "retrain", "spend moved", "calm")
    assert set(receipt.others) == {"value", "metric", "forecast", "schedule"}
    acted = retrain_decision.of_look(world.context, "r", "churn", LOOK)
    assert (acted["decision"], acted["since"]) == ("retrain", "s")
    assert acted["reason"].startswith("drift: spend moved; expected to save ")
    assert "; a retrain costs 1.63 USD; it would be otherwise with calm; other rules: forecast " in acted["reason"]


def test_what_was_asked_for_is_not_asked_for_again_at_once(world):
    """The day after, the rule says the same, and the cool-down holds it back; the day's own look, repeated, still asks."""
    rule(world, "value")
    assert decide(world).decision == "retrain"
    next_day = decide(world, AS_OF + timedelta(days=1))
    assert (next_day.says, next_day.decision) == ("retrain", "wait")
    assert "a retrain was asked for as of 2024-03-01" in next_day.guards[0]
    assert "a retrain was asked for" in next_day.sentence()
    assert decide(world).decision == "retrain"


def test_a_retrain_that_did_not_go_live_is_not_asked_for_again_until_something_moves(world):
    """Its version waits for approval, or was worse than the champion by the gate; one that another gate stopped is tried again."""
    rule(world, "value")
    later = AS_OF + timedelta(days=10)
    assert decide(world).decision == "retrain"

    def stopped(gate):
        event = GatesChecked(verdicts=[{"gate": gate, "passed": False}], as_of=AS_OF.isoformat())
        world.ledger.append(event, "churn")

    stopped("enough_rows")
    assert decide(world, later).decision == "retrain"
    later += timedelta(days=1)
    world.ledger.append(
        VersionRegistered(version="2", mlflow_run="m", data_version="d", as_of=AS_OF.isoformat()), "churn"
    )
    assert "since the last retrain" in retrain_decision.decide(world.context, "r", "churn", later).sentence()


def test_skew_is_not_retrained_for_whatever_the_rule_says(world):
    """A retrain learns from the source, which does not show the change."""
    rule(world, "value")
    receipt = decide(world, look={**LOOK, "verdict": "skew", "decision": "wait"})
    assert (receipt.says, receipt.decision) == ("retrain", "wait")
    assert "train/serve skew" in receipt.guards[0]


def test_skew_of_the_newest_look_counts_for_who_makes_none_and_what_was_lost_before_it_does_not(world):
    """A run on schedule goes by the monitor's newest look; what its version has lost before the skew's alarm is no skew."""
    rule(world, "value")
    body = {**world.check().as_dict(), "verdict": "skew"}

    def seen(began):
        alarm = {"since": AS_OF.isoformat(), "start": began.isoformat(), "features": {}}
        world.ledger.append(DriftChecked.read({**body, "alarm": alarm}), "churn")

    seen(YEAR)
    assert "train/serve skew" in retrain_decision.why_not(world.context, "r", "churn", AS_OF)
    seen(AS_OF - timedelta(days=3))
    assert decide(world).decision == "retrain"
    seen(YEAR)
    assert "train/serve skew" in decide(world).sentence()
    rule(world, "drift")
    assert decide(world, look={**LOOK, "verdict": "skew"}).decision == "retrain", "the look has judged the skew itself"


def answered_by_the_second(world, since):
    """The log says version 2 from then on."""
    (file,) = predictions_folder(world.home, "churn").glob("*.parquet")
    table = pq.read_table(file)
    versions = ["2" if time >= since.isoformat() else "1" for time in table["event_time"].to_pylist()]
    pq.write_table(table.set_column(table.column_names.index("version"), "version", pa.array(versions)), file)


@pytest.mark.parametrize("name", ["metric", "value", "schedule"])
def test_a_retrain_that_did_not_cure_holds_the_next_one_by_each_rule_by_losses(world, name):
    """The receipt names the guard, and says of the other rules that they are held back; a schedule goes by its clock."""
    rule(world, name, window_days=3, every_days=7)
    by_week = {3: 0.62, 4: 0.52, 5: 0.6, 6: 0.5, 7: 0.55}
    world.right = {
        "1": lambda week: 0.9 if week < 2 else by_week.get(week, 0.6) - 0.03,
        "2": lambda week: by_week.get(week, 0.6),
    }
    born = YEAR + timedelta(days=21)
    event = VersionRegistered(version="2", mlflow_run="m", data_version="d", as_of=born.isoformat())
    world.ledger.append(event, "churn", at=born.isoformat())
    world.live("2", (born + timedelta(hours=1)).isoformat())
    answered_by_the_second(world, born)
    receipt = decide(world)
    assert receipt.saving is not None and receipt.low <= receipt.saving <= receipt.high
    if name == "schedule":
        assert (receipt.decision, receipt.others["metric"], receipt.others["value"]) == (
            "retrain",
            *["retrain, held back"] * 2,
        )
        return
    assert (receipt.says, receipt.decision) == ("retrain", "wait")
    assert receipt.guards[0].startswith(
        "version 2 was trained on this very change, and the last retrain did not cure it: version 2 loses 0.5"
    )
    assert receipt.others["schedule"] == "retrain"


def test_a_backtests_curve_is_what_a_version_is_expected_to_lose(world):
    """A version is judged by how this model's versions aged: in this loss, and up to the look alone."""
    rule(world, "value")
    world.right["1"] = lambda weeks: 0.8
    curve = {"b": 0.05, "slow": 8.0, "error": 0.0001, "blocks": 40, "alarmed": 1.0}

    def backtested(end, loss):
        told = {
            "start": "2023-01-01",
            "end": end,
            "window_days": 7,
            "windows": 50,
            "delay": 0,
            "compared_from": "",
            "loss": loss,
        }
        world.ledger.append(Backtested(**told, recommendation="", best="", tells=True, staleness=curve), "churn")

    backtested("2024-03-02", "log_loss")
    backtested("2023-12-31", "brier")
    unknown = decide(world).score
    backtested("2023-12-31", "log_loss")
    aged = decide(world).score
    assert aged > 0.01 > unknown
    assert decide(world, YEAR + timedelta(days=24)).score < aged


def test_a_run_on_schedule_asks_first(world, tmp_path):
    """By value, the default, it is told why not; by drift it is not asked, and a first version is trained by any rule."""
    rule(world, "drift")
    assert retrain_decision.why_not(world.context, "r", "churn", AS_OF) == ""
    change_params(world.project, "models.churn.policy", {})
    empty = SimpleNamespace(**{**vars(world.context), "ledger": Ledger(f"sqlite:///{tmp_path / 'empty.db'}")})
    assert retrain_decision.why_not(empty, "r", "churn", AS_OF) == ""
    assert not world.ledger.events(RetrainDecided)
    world.right["1"] = lambda weeks: 0.8
    why = retrain_decision.why_not(world.context, "r", "churn", AS_OF)
    assert why.startswith("churn: wait, as of 2024-03-01, by the rule value")
    assert why.endswith("a run by hand goes on whatever this says")
    assert world.ledger.events(RetrainDecided)


def test_without_a_backtest_and_labels_a_guess_decides_and_is_called_one(world):
    """A schedule that asks is not told to wait for ever: after `policy.due_after_days` a retrain is due, whatever it costs."""
    change_params(world.project, "models.churn.policy", {"due_after_days": 50})
    change_params(world.project, "models.churn.source.label_delay_days", 11)
    change_params(world.project, "models.churn.evaluation.holdout_days", 14)
    world.land(world.source[:0].assign(spend=1.0, calls=2.0, plan="plus"))
    early, due = decide(world, YEAR + timedelta(days=40)), decide(world)
    assert (early.decision, due.decision) == ("wait", "retrain")
    assert "is a guess: that a retrain is due after 50 days (models.churn.policy.due_after_days)" in due.basis
    assert "without labels that alone decides" in due.basis and due.basis in due.sentence()
    assert "policy.due_after_days" not in due.economics["guesses"]
    assert due.economics["rows_a_day"]["how"].startswith("requests a day")
    change_params(world.project, "models.churn.policy", {})
    unstated = decide(world)
    assert unstated.decision == "wait" and "policy.due_after_days" in unstated.economics["guesses"]


def test_a_version_that_nobody_trained_here_is_retrained_by_its_time_in_use(world):
    """Without an as-of its age counts from when it went live; without a digest either, a retrain is what makes it known."""
    change_params(world.project, "models.churn.policy", {"due_after_days": 14})
    world.live("7", "2024-02-10T01:00:00+00:00")
    world.right["7"] = world.right["1"]
    assert (
        "nobody knows as of when version 7 was trained, so its age counts from when it went live" in decide(world).basis
    )
    world.ledger.append(RolloutEnded.read({"version": "8", "slot": "green", "engine": "process"}), "churn")
    assert decide(world).decision == "retrain"
    rule(world, "never")
    assert decide(world).decision == "wait"


def test_the_table_says_what_is_guessed_and_what_would_flip_it(world):
    """A person reads decision, reason, cost, guesses and the losses of the last weeks."""
    change_params(world.project, "models.churn.economics", {"loss": "log_loss"})
    rule(world, "value")
    text = decision_table.receipt("churn", decide(world))
    assert "guesses, until you state them: models.churn.economics.value" in text
    assert "a retrain costs" in text and "machine 0.05 (guess)" in text
    assert "it would be otherwise with" in text and "other rules: " in text
    assert "2024-02-12" in text


def test_a_model_without_a_champion_has_nothing_to_decide(project, world):
    """It is said, with what to do."""
    with pytest.raises(RegistryError, match="model other: has no champion; train one"):
        retrain_decision.decide(world.context, "r", "other", AS_OF)


def test_without_labels_the_signal_that_earned_it_counts(world):
    """Of a model without labels an alarm of the answers makes a retrain due earlier, where the backtest has shown what it tells."""
    change_params(world.project, "models.churn.source.label_delay_days", 11)
    change_params(world.project, "models.churn.evaluation.holdout_days", 14)
    world.land(world.source[:0].assign(spend=1.0, calls=2.0, plan="plus"))
    rule(world, "value")
    curve = {"b": 0.05, "slow": 8.0, "error": 0.0001, "blocks": 40, "alarmed": 1.0}
    earned = {"inputs": {"alarmed": 1.0}, "answers": {"alarmed": 3.0, "limit": 0.1}}
    told = {
        "start": "2023-01-01",
        "end": "2023-12-31",
        "window_days": 7,
        "windows": 50,
        "delay": 0,
        "compared_from": "",
    }
    made = Backtested(
        **told, loss="log_loss", recommendation="", best="", tells=True, staleness=curve, covariates=earned
    )
    world.ledger.append(made, "churn")
    calm = decide(world)
    assert "of the alarms a shift of the answers alone counts: in the backtest versions lost 3.00 times" in calm.basis
    look = {"verdict": "no drift", "reason": "", "champion": "1", "as_of": "2024-02-20T00:00:00+00:00"}
    world.ledger.append(DriftChecked.read({**look, "answers": {"jensen_shannon": 0.05}}), "churn")
    assert decide(world).score == calm.score
    world.ledger.append(DriftChecked.read({**look, "answers": {"jensen_shannon": 0.2}}), "churn")
    alarmed = decide(world)
    assert alarmed.score == pytest.approx(3 * calm.score)
    assert "3.00 times that after a shift of the answers" in alarmed.why


def test_a_budget_that_is_spent_holds_a_retrain_that_pays(world):
    """What `value` would do is done where a retrain is left, and the receipt has the place; a look that is repeated says the same."""
    rule(world, "budget")
    change_params(world.project, "budget", {"retrains_a_month": 0})
    held = decide(world)
    assert (held.rule, held.decision, held.others["value"]) == ("budget", "wait", "retrain")
    assert "number 1 of 1 by what a retrain saves beyond its cost, and 0 of 0 are left in 30 days" in held.why
    assert held.flips.endswith("or a higher budget.retrains_a_month")
    change_params(world.project, "budget", {"retrains_a_month": 1})
    week = AS_OF + timedelta(days=7)
    granted = decide(world, week)
    assert granted.decision == "retrain" and "and 1 of 1 are left" in granted.why
    assert decide(world, week) == granted
    (first, second) = (entry.event for entry in world.ledger.events(BudgetLooked))
    assert (first.granted, second.granted, second.ceilings) == (False, True, ["budget.retrains_a_month"])
    assert retrain_decision.why_not(world.context, "r", "churn", week) == ""


def test_a_frozen_model_asks_for_nothing_so_that_the_first_look_after_does(world):
    """The stop button and the calendar are guards of the receipt: neither a cool-down nor a share of the budget goes by what was not asked."""
    noon, night = (AS_OF + timedelta(hours=hours) for hours in (12, 24))
    span = {"start": noon.isoformat(), "end": night.isoformat(), "reason": "sales"}
    rule(world, "budget", frozen=[span])
    change_params(world.project, "budget", {"retrains_a_month": 1})
    held = decide(world, noon)
    assert (held.says, held.decision) == ("retrain", "wait")
    assert held.guards == ["the model is frozen until 2024-03-02 00:00 by models.churn.policy.frozen: sales"]
    world.ledger.append(Frozen(reason="Black Friday", by="ann"), "churn")
    held = decide(world, AS_OF + timedelta(days=2))
    assert (held.decision, held.guards) == ("wait", ["the model is frozen by ann: Black Friday"])
    world.ledger.append(Unfrozen(reason="over", by="ann"), "churn")
    asks = decide(world, AS_OF + timedelta(days=3))
    assert (asks.decision, asks.guards) == ("retrain", ()) and "and 1 of 1 are left" in asks.why


def test_without_a_new_label_there_is_nothing_to_retrain_on(world):
    """The run would fail, or learn what the version knows: the receipt says so in each week, and goes on where labels come after all."""
    rule(world, "value", due_after_days=30)
    late = (world.source["seen_at"] + timedelta(days=900)).dt.as_unit("us")
    world.land(world.source.assign(decided_at=late))
    for day in (0, 1):
        held = decide(world, AS_OF + timedelta(days=day))
        assert (held.says, held.decision) == ("retrain", "wait")
        assert held.guards == [
            "of the source's rows since 2024-01-01 0 have labels, so there is next to nothing new to learn"
        ]
    world.land(world.source)
    assert decide(world, AS_OF + timedelta(days=8)).decision == "retrain"


def test_a_version_of_this_week_is_new(world):
    """A look in the week in which the version was trained has no age to go by: every rule waits."""
    for day, as_of in ((21, AS_OF - timedelta(days=7)), (28, AS_OF)):
        event = VersionRegistered(
            version=f"{day}", mlflow_run="m", data_version="d", as_of=f"2024-02-{day}T05:00:00+00:00"
        )
        world.ledger.append(event, "churn", at=f"2024-02-{day}T05:00:00+00:00")
        world.live(f"{day}", f"2024-02-{day}T06:00:00+00:00")
        receipt = decide(world, as_of)
        assert (receipt.decision, receipt.score, receipt.ages[f"{day}"]) == ("wait", 0.0, 0)
        assert set(receipt.others.values()) == {"wait"}
