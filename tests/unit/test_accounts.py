"""The bill: every part of it, on an example that is worked by hand."""

from __future__ import annotations

import pytest

from pipeline.accounts.lines import total
from pipeline.accounts.money import cents, in_cents, whole
from pipeline.accounts.statement import Statement, Terms, statement
from pipeline.ledger import energy
from pipeline.ledger.energy import EnergyReading
from pipeline.ledger.events import StepEnded, VersionRegistered
from pipeline.ledger.store import Ledger
from pipeline.ledger.usage_events import BytesMoved
from pipeline.settings.accounts import Prices
from tests.support.accounts import BY_HAND, PRICES, TERMS, UNTIL, worked_by_hand


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")


def test_the_example_worked_by_hand_comes_out_to_the_cent(ledger):
    """Each part of three runs, a rollback, two months, slots and people is what tests/support/accounts.py works out by hand."""
    bill = statement(worked_by_hand(ledger), TERMS, until=UNTIL)
    assert {part: cents(sum(line.amount for line in lines)) for part, lines in bill.by_part().items()} == BY_HAND
    # 1.1 + 1.0 + 0.2 + 604.8 + 240 h of services 2.4 + 10 people; the rest is February's.
    assert {month: cents(amount) for month, amount in bill.by(lambda line: line.month).items()} == {
        "2026-01": 61_950,
        "2026-02": 180_723 - 61_950,
    }
    assert cents(bill.total) == 180_723


def sums(bill: Statement) -> list[int]:
    by = [bill.by(lambda line, key=key: getattr(line, key)) for key in ("part", "model", "month", "step")]
    return [sum(each.values()) for each in (*by, bill.by_run())]


def test_every_way_to_cut_the_bill_adds_up_to_the_same_total(ledger):
    """Sums by part, model, month, step and run, and the months and models alone, add up to the total exactly."""
    worked_by_hand(ledger)
    ledger.append(
        StepEnded(state="success", wall_s=0.7, cpu_s=0.3, peak_mb=33.3),
        "n",
        "s",
        "train",
        at="2026-02-05T00:00:00.000Z",
    )
    bill = statement(ledger, TERMS, until=UNTIL)
    assert sums(bill) == [bill.total] * 5
    alone = [statement(ledger, TERMS, until=UNTIL, model=model) for model in ("m", "n")]
    assert sum(each.total for each in alone) == bill.total
    months = [statement(ledger, TERMS, until=UNTIL, month=month) for month in ("2026-01", "2026-02")]
    assert sum(each.total for each in months) == bill.total
    assert sum(row["amount"] for row in bill.as_dict()["by_run"]) == pytest.approx(bill.as_dict()["total"], abs=1e-7)


def test_a_run_alone_has_its_attempts_and_its_people(ledger):
    """The bill of a run has its steps, its failed attempts, its transfer and its people, and no slots."""
    bill = statement(worked_by_hand(ledger), TERMS, until=UNTIL, run="r2")
    assert {part: cents(sum(line.amount for line in lines)) for part, lines in bill.by_part().items()} == {
        "steps": 210,
        "failed attempts": 110,
        "people": 1_000,
    }


def test_a_step_that_is_done_again_costs_nobody_further_minutes(ledger):
    """The same version of the same run, registered again in the next month, is read once; the next version of that run again."""
    worked_by_hand(ledger)
    of = {"mlflow_run": "x", "data_version": "d", "as_of": "2026-01-22"}
    ledger.append(VersionRegistered(version="1", **of), "m", "r1", at="2026-02-05T00:00:00.000Z")
    assert (
        statement(ledger, TERMS, until=UNTIL).by_part()["people"]
        == statement(ledger, TERMS, until="2026-02-04T00:00:00.000Z").by_part()["people"]
    )
    assert "people" not in statement(ledger, TERMS, until=UNTIL, run="r1", month="2026-02").by_part()
    ledger.append(VersionRegistered(version="3", **of), "m", "r1", at="2026-02-05T00:00:00.000Z")
    assert cents(total(statement(ledger, TERMS, until=UNTIL).by_part()["people"])) == BY_HAND["people"] + 1_000


def test_what_is_moved_besides_costs_its_transfer_and_is_not_stored(ledger):
    """A card that MLflow gets and data that a worker fetches are transfer of their run, and lie in the DVC remote no longer."""
    before = statement(worked_by_hand(ledger), TERMS, until=UNTIL)
    ledger.append(BytesMoved(what="model card", bytes=10**9), "m", "r1", at="2026-02-05T00:00:00.000Z")
    parts = statement(ledger, TERMS, until=UNTIL).by_part()
    assert cents(total(parts["transfer"])) == BY_HAND["transfer"] + 50
    assert parts["storage"] == before.by_part()["storage"]
    assert cents(total(statement(ledger, TERMS, until=UNTIL, run="r1").by_part()["transfer"])) == 150


def test_what_nobody_states_is_a_guess(ledger):
    """A part is a guess where the minutes, the price or a killed step's use is one."""
    worked_by_hand(ledger)
    prices = Prices(cpu_core_hour=1, memory_gb_hour=1, engineer_hour=60)
    parts = {row["part"]: row["known"] for row in statement(ledger, Terms(prices), until=UNTIL).as_dict()["by_part"]}
    assert parts["steps"] == parts["live slot"] == "measured"
    assert parts["people"] == parts["killed steps"] == parts["storage"] == "guess"


def test_shown_cents_add_up():
    """Thirds of a cent are shown so that the parts add up to the shown total."""
    assert in_cents([whole(1 / 300)] * 3) == [1, 0, 0]
    assert in_cents([whole(-1 / 300), whole(2 / 300)]) == [0, 0]
    assert sum(in_cents([whole(1 / 7)] * 7)) == 100


def test_a_price_holds_until_it_changes():
    """A change names its date and what changes; the rest stays, and dates must follow each other."""
    assert PRICES.at("2026-01-31T23:59:59.999Z").cpu_core_hour == 3.6
    assert (PRICES.at(UNTIL).cpu_core_hour, PRICES.at(UNTIL).memory_gb_hour) == (7.2, 0.36)
    with pytest.raises(ValueError, match="must be later than the one before it"):
        Prices.model_validate(
            {**PRICES.model_dump(exclude={"changes"}), "changes": [{"from": "2026-02-01"}, {"from": "2026-01-01"}]}
        )


def test_energy_is_the_steps_share_of_what_the_machine_used():
    """A step gets its share of the joules by processor time; without a meter none."""
    start, end = EnergyReading(2.0, 10.0), EnergyReading(7.0, 30.0)
    assert energy.share(start, end, cpu_s=5.0) == 1.25
    assert energy.share(None, end, cpu_s=5.0) is None


def test_the_bill_of_a_month_names_the_runs_of_that_month_alone(ledger):
    """A run without a line in it is no row of its own."""
    bill = statement(worked_by_hand(ledger), TERMS, until=UNTIL, month="2026-02")
    assert list(bill.by_run()) == ["r2", "earlier runs", "no run"]
