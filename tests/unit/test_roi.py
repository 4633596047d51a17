"""Whether automation pays: channels, break-even, and what the study's own example comes to."""

from __future__ import annotations

import itertools

import pytest

from pipeline.accounts import closed_months
from pipeline.accounts.money import as_float
from pipeline.accounts.roi import roi
from pipeline.accounts.source_example import CHANNELS, INVESTMENTS, source_example
from pipeline.accounts.statement import Terms, statement
from pipeline.cli import roi_table
from pipeline.ledger.events import StepEnded
from pipeline.ledger.rollout_events import RolledBack, RolloutEnded, Undeployed
from pipeline.ledger.store import EVENTS, Ledger
from pipeline.settings.accounts import Baseline, Prices
from tests.support.accounts import TERMS, worked_by_hand

PRICES = Prices(cpu_core_hour=3600, memory_gb_hour=0, engineer_hour=100)
CLAIMS = {
    "source": "Deployment Automation ROI (2026)",
    "manual_engineer_hours_per_deployment": (8, 16),
    "automated_engineer_hours_per_deployment": (0.5, 2),
}
UNTIL = "2027-01-01T06:00:00.000Z"


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    """Two models over a year: `a` by hand and by schedule, `b` by hand alone; 1,200 of machine time."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")

    def live(model: str, run: str, day: str) -> None:
        ledger.append(
            StepEnded(state="success", wall_s=1, cpu_s=400, peak_mb=0),
            model,
            run,
            "train",
            at=f"2026-{day}T00:00:00.000Z",
        )
        ledger.append(RolloutEnded(version="1", digest=run), model, run, at=f"2026-{day}T00:00:00.000Z")

    live("a", "cli/a/1", "01-01")
    live("b", "cli/b/1", "01-01")
    live("a", "retrain__a/scheduled__2026-02-01", "02-01")
    return ledger


def told(ledger: Ledger, model: str = "", **stated) -> dict:
    return roi(ledger, Terms(PRICES), Baseline.model_validate({**CLAIMS, **stated}), model=model, until=UNTIL).as_dict()


def test_the_four_channels_say_how_each_is_known(ledger):
    """Two models over a year: claimed channels are their ranges times model-years, and a stated one is yours."""
    found = told(ledger, saved_compute=(1_000, 2_000))
    channels = {each["channel"]: (each["low"], each["high"], each["known"]) for each in found["savings"]}
    assert found["model_years"] == pytest.approx(2)
    # 3 deployments, 8 - 2 to 16 - 0.5 hours, at 100.
    assert channels["engineer time"] == (pytest.approx(1_800), pytest.approx(4_650), "claimed")
    assert channels["incidents"] == (pytest.approx(20_000), pytest.approx(50_000), "claimed")
    assert channels["time to market"] == (pytest.approx(40_000), pytest.approx(120_000), "claimed")
    assert channels["compute"] == (pytest.approx(2_000), pytest.approx(4_000), "yours")


def test_incidents_that_have_a_price_are_counted(ledger):
    """With incident_cost the channel is the failures by hand minus those that happened."""
    ledger.append(RolledBack(version="1", left="2"), "a", at="2026-03-01T00:00:00.000Z")
    (found,) = (each for each in told(ledger, incident_cost=1_000)["savings"] if each["channel"] == "incidents")
    assert (found["low"], found["high"]) == (
        pytest.approx(1_000 * (3 * 0.15 - 1)),
        pytest.approx(1_000 * (3 * 0.3 - 1)),
    )
    assert found["count"] == 1


def test_break_even_is_the_investment_over_what_is_left_a_month(ledger):
    """Low: 100,000 over 2 models of 140,000 a year minus the bill; high: 380,000 over 50,000; the month counts from the first event."""
    found = told(ledger)["break_even"]
    assert found["low_months"] == pytest.approx(100_000 / (2 * 140_000 / 12 - 100))
    assert found["mid_months"] == pytest.approx(240_000 / (2 * 95_000 / 12 - 100))
    assert found["high_months"] == pytest.approx(380_000 / (2 * 50_000 / 12 - 100))
    assert (found["low_month"], found["high_month"], found["known"]) == ("2026-05", "2029-11", "claimed")


def test_a_bill_above_the_savings_never_breaks_even(ledger):
    """Where a month costs more than it saves there is no month of break-even."""
    nothing = dict.fromkeys(("saved_engineer_time", "saved_incidents", "saved_time_to_market", "saved_compute"), (0, 0))
    assert told(ledger, **nothing)["break_even"]["low_months"] is None


def test_each_model_and_one_more_have_their_cost(ledger):
    """The bill is shared out by model, and one more model costs what those that are there cost in a month."""
    found = told(ledger)
    assert {row["model"]: row["bill"] for row in found["by_model"]} == {"a": 800, "b": 400}
    one = found["marginal_model"]
    assert [one[f"a_month_{name}"] for name in ("low", "median", "high")] == pytest.approx([400 / 12, 50, 800 / 12])
    assert told(ledger, "b")["bill"] == 400


def test_the_level_is_what_the_ledger_saw(ledger):
    """By hand is level 1, a run by schedule level 3; together the lower one counts, with the events that show it."""
    found = told(ledger)["maturity"]
    assert (found["level"], found["by_model"]) == (1, {"a": 3, "b": 1})
    assert told(ledger, "a")["maturity"]["name"] == "full automation"
    assert found["events"] == [ledger.events(RolloutEnded, model="b")[0].seq]


def test_the_studys_example_comes_out_as_far_as_its_parts_give_it():
    """The sums and the low ends come out as printed, two of the high ends too; that of 5 models is said not to."""
    found = source_example()
    assert found["saved_a_model_and_year"] == [50_000, 140_000]
    assert [row["computed_low"] for row in found["break_even"]] == pytest.approx([8, 4, 2])
    assert all(row["low_comes_out"] for row in found["break_even"])
    assert [row["high_comes_out"] for row in found["break_even"]] == [False, True, True]
    assert found["does_not_come_out"].startswith("the high end of 5 models")


def test_the_bill_of_pages_is_that_of_the_command_to_the_last_digit(tmp_path, monkeypatch):
    """Months that are over are kept, the present one is read anew: by part, model and month the sums are those of `statement`, also after more events."""
    ledger = worked_by_hand(Ledger(f"sqlite:///{tmp_path / 'hand.db'}"))
    for at in ("2026-02-11T00:00:00.000Z", "2026-02-11T06:00:00.000Z"):
        monkeypatch.setattr(closed_months, "now", lambda at=at: at)
        for model in ("", "m"):
            kept = closed_months.bill_so_far(ledger, TERMS, "s", model=model, by_month=True)
            whole = statement(ledger, TERMS, model=model, until=at)
            for key in (lambda line: line.part, lambda line: line.model, lambda line: line.month):
                assert kept.by(key) == whole.by(key)
        ledger.append(StepEnded(state="success", wall_s=1, cpu_s=700, peak_mb=1), "m", "r4", "train", at=at)


def test_a_month_that_is_over_is_read_anew_when_something_came_late_or_the_ledger_or_the_settings_are_others(
    tmp_path, monkeypatch
):
    """An event of an earlier month, a ledger that was restored, and other settings each give their own sum."""
    minutes = itertools.count()
    monkeypatch.setattr(closed_months, "now", lambda: f"2026-03-11T00:{next(minutes):02d}:00.000Z")
    ledger = Ledger(f"sqlite:///{tmp_path / 'l.db'}")

    def bill(settings: str = "s") -> float:
        terms = Terms(PRICES if settings == "s" else Prices(cpu_core_hour=7200, memory_gb_hour=0, engineer_hour=1))
        return as_float(closed_months.bill_so_far(ledger, terms, settings).total)

    def step(at: str) -> None:
        ledger.append(StepEnded(state="success", wall_s=1, cpu_s=1, peak_mb=0), "m", "r", "train", at=f"{at}T00:00:00.000Z")  # fmt: skip

    step("2026-02-01")
    assert (bill(), bill("twice as dear")) == (1, 2)
    step("2026-02-02")
    assert bill() == 2
    with ledger.writing() as connection:
        connection.execute(EVENTS.delete().where(EVENTS.c.seq == 2))
    step("2026-02-03")
    step("2026-03-01")
    assert bill() == 3
    step("2026-03-02")
    assert bill() == 4


def test_a_bill_is_shown_again_for_a_minute_and_says_as_of_when(tmp_path, monkeypatch):
    """Within a minute a page shows the bill that is there, with its time; after it what came since counts."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'l.db'}")
    seen = []
    for second in ("00:00", "00:59", "01:00"):
        monkeypatch.setattr(closed_months, "now", lambda at=second: f"2026-03-11T00:{at}.000Z")
        bill = closed_months.bill_so_far(ledger, Terms(PRICES), "s")
        seen.append((bill.until[14:19], as_float(bill.total)))
        step = StepEnded(state="success", wall_s=1, cpu_s=1, peak_mb=0)
        ledger.append(step, "m", "r", "train", at=f"2026-03-11T00:{second}.000Z")
    assert seen == [("00:00", 0), ("00:00", 0), ("01:00", 2)]


def test_hours_are_priced_at_the_day_of_their_deployment(tmp_path):
    """Of two deployments one comes after engineers cost twice as much: 8 - 2 hours at 100 and at 200, to 16 - 0.5."""
    changed = Prices.model_validate({**PRICES.model_dump(), "changes": [{"from": "2026-06-01", "engineer_hour": 200}]})
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    for month in ("03", "09"):
        ledger.append(RolloutEnded(version=month, digest=month), "a", "cli/a/1", at=f"2026-{month}-01T00:00:00.000Z")
    found = roi(ledger, Terms(changed), Baseline.model_validate(CLAIMS), until=UNTIL).as_dict()
    engineers = found["savings"][0]
    assert (engineers["low"], engineers["high"]) == (6 * 300, 15.5 * 300)
    assert (found["net_low"], found["engineer_hours_saved_low"]) == (6 * 300, 12)


def test_hours_by_hand_that_are_yours_against_claimed_ones_are_a_claim(ledger):
    """The weaker of two factors is what a product is known by."""
    found = told(ledger, manual_engineer_hours_per_deployment=(5, 6))
    assert found["savings"][0]["known"] == "claimed"
    stated = told(
        ledger, manual_engineer_hours_per_deployment=(5, 6), automated_engineer_hours_per_deployment=(0.1, 0.2)
    )
    assert stated["savings"][0]["known"] == "yours"


def test_a_model_that_was_taken_off_saves_no_more(ledger):
    """Model-years count while something of the model is live."""
    ledger.append(Undeployed(version="1"), "b", at="2026-07-02T15:00:00.000Z")
    assert told(ledger)["model_years"] == pytest.approx(1.5, abs=0.001)


def test_claims_in_another_currency_than_the_prices_are_said_not_to_be_converted(ledger):
    """The study's amounts are dollars: in another currency the account says so until a team states its own."""
    euros = Terms(PRICES.model_copy(update={"currency": "EUR"}))
    stated = dict.fromkeys((*INVESTMENTS, *CHANNELS), (1, 2))
    assert told(ledger)["not_converted"] == ""
    claimed = roi(ledger, euros, Baseline.model_validate(CLAIMS), until=UNTIL)
    assert "are USD" in claimed.not_converted and claimed.not_converted in roi_table.roi(claimed.as_dict())
    assert roi(ledger, euros, Baseline.model_validate(CLAIMS | stated), until=UNTIL).not_converted == ""
