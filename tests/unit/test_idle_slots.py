"""The processor time of slots: from a slot's counter into the ledger, over deaths on either side, and from there into the bill."""

from __future__ import annotations

import pytest

from pipeline.accounts.idle import idle_of
from pipeline.accounts.money import cents
from pipeline.accounts.statement import statement
from pipeline.cli import account_table
from pipeline.ledger import rollups
from pipeline.ledger.store import Ledger
from pipeline.ledger.usage_events import SlotUsed
from pipeline.reliability.counts import file_of
from pipeline.reliability.used_slots import UsedSlots, counters
from pipeline.serving.metrics import PROCESSOR_SENT_AGAIN, Metrics
from tests.support.accounts import TERMS, UNTIL, worked_by_hand

# 2027-01-15 00:00 UTC.
DAY = 1_799_971_200.0
BLUE, GREEN = ("m", "blue", "1"), ("m", "green", "2")


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")


def page(busy: float, started: float) -> str:
    return (
        f'perennial_processor_seconds_total{{model="m"}} {busy}\nperennial_start_time_seconds{{model="m"}} {started}\n'
    )


def noted(ledger: Ledger) -> list[tuple[str, float, float, bool]]:
    return [(e.event.slot, e.event.covered_s, e.event.busy_s, e.event.second) for e in ledger.events(SlotUsed)]


def test_a_slots_page_has_the_processor_time_of_all_its_processes(monkeypatch):
    """What each process took, also one that was started in the place of another, what loaded the package, and what is sent again."""
    metrics, clock = Metrics({"model": "m"}, processes=2), [3_000_000_000]
    monkeypatch.setattr("time.process_time_ns", lambda: clock[0])
    metrics.count_processor()
    for process, took in ((0, 1.0), (1, 0.5), (1, 0.25)):
        # A process that was just forked has taken nothing.
        metrics.begin(process)
        clock[0] = round(took * 1e9)
        metrics.count_response(200, 0.01)
    metrics.add(PROCESSOR_SENT_AGAIN, 125_000_000)
    busy, started = counters(metrics.page()[0].decode())
    assert (busy, started > 1e9) == (3 + 1 + 0.5 + 0.25 + 0.125, True)
    assert counters("perennial_requests_total 3") is None


def test_what_a_slot_takes_is_noted_once_a_day_and_after_its_first_minutes(ledger, tmp_path):
    """All since its start counts; the ledger gets ten minutes, then a day, and what is noted of a day ends in it."""
    used = UsedSlots(tmp_path, ledger)
    for minute in range(0, 24 * 60 + 1, 5):
        used.look({BLUE: page(minute * 6.0, DAY)}, {BLUE}, DAY + minute * 60)
    assert noted(ledger) == [("blue", 600.0, 60.0, False), ("blue", 23 * 3600 + 55 * 60 - 600.0, 8550.0, False)]
    assert [entry.event.end[:16] for entry in ledger.events(SlotUsed)] == ["2027-01-15T00:10", "2027-01-15T23:55"]


def test_deltas_add_up_over_a_slot_that_is_killed_and_a_watcher_that_is(ledger, tmp_path):
    """A counter that begins anew counts whole, a watcher goes on where the last one was, and a slot that is gone is noted at once."""
    first = UsedSlots(tmp_path, ledger)
    first.look({BLUE: page(5.0, DAY)}, {BLUE}, DAY + 100)
    first.look({BLUE: page(9.0, DAY)}, {BLUE}, DAY + 200)
    # Killed: what came after its last look is lost; the next process has a counter of its own, which may be higher.
    first.look({}, {BLUE}, DAY + 210)
    first.look({BLUE: page(11.0, DAY + 220)}, {BLUE}, DAY + 260)
    second = UsedSlots(tmp_path, ledger)
    second.look({BLUE: page(15.0, DAY + 220)}, {BLUE}, DAY + 400)
    second.look({}, set(), DAY + 410)
    assert noted(ledger) == [("blue", 200.0 + 180.0, 9.0 + 15.0, False)]


def test_a_watcher_that_was_killed_between_ledger_and_file_counts_none_twice(ledger, tmp_path):
    """What is in the ledger already is not noted again, though the file still has it, or was deleted."""
    first = UsedSlots(tmp_path, ledger)
    first.look({BLUE: page(5.0, DAY)}, {BLUE}, DAY + 100)
    first._write(DAY + 100)
    before = file_of(tmp_path).read_bytes()
    first.look({BLUE: page(30.0, DAY)}, {BLUE}, DAY + 700)
    for left_over in (before, None):
        file_of(tmp_path).unlink()
        if left_over is not None:
            file_of(tmp_path).write_bytes(left_over)
        later = UsedSlots(tmp_path, ledger)
        later.look({BLUE: page(40.0, DAY)}, {BLUE}, DAY + 800)
    later.look({BLUE: page(43.0, DAY)}, {BLUE}, DAY + 900)
    later.look({}, set(), DAY + 910)
    assert noted(ledger) == [("blue", 700.0, 30.0, False), ("blue", 100.0, 3.0, False)]


def test_while_both_slots_run_the_one_that_started_first_is_the_second(ledger, tmp_path):
    """What a slot took before another was started beside it is noted apart from what it takes beside it."""
    used = UsedSlots(tmp_path, ledger)
    used.look({BLUE: page(5.0, DAY)}, {BLUE}, DAY + 100)
    both = {BLUE: page(6.0, DAY), GREEN: page(1.0, DAY + 150)}
    used.look(both, {BLUE, GREEN}, DAY + 200)
    used.look({BLUE: page(6.5, DAY), GREEN: page(4.0, DAY + 150)}, {BLUE, GREEN}, DAY + 300)
    used.look({}, set(), DAY + 310)
    assert noted(ledger) == [("blue", 200.0, 6.0, False), ("blue", 100.0, 0.5, True), ("green", 150.0, 4.0, False)]


def watched(ledger: Ledger) -> Ledger:
    """The example worked by hand, with slots that were watched for a part of their time."""
    day = {"version": "1", "slot": "blue"}
    # 100 of January's 240 hours; half a processor did 10 % of what it could: 90 idle hours of 2.52.
    ledger.append(SlotUsed(**day, start="2026-01-22T00:00:00Z", end="2026-01-24T00:00:00Z", covered_s=48 * 3600, busy_s=2 * 3600), "m")  # fmt: skip
    ledger.append(SlotUsed(**day, start="2026-01-24T00:00:00Z", end="2026-01-26T04:00:00Z", covered_s=52 * 3600, busy_s=3 * 3600), "m")  # fmt: skip
    # All 24 hours beside green, and nothing done: 24 of 4.32.
    beside = SlotUsed(**day, start="2026-02-01T00:00:00Z", end="2026-02-02T00:00:00Z", covered_s=24 * 3600, busy_s=0, second=True)  # fmt: skip
    ledger.append(beside, "m")
    return ledger


def test_the_idle_share_worked_by_hand_comes_out_to_the_cent(ledger, monkeypatch):
    """The share of the watched hours and what it costs, of either part; the total stays what it was, however the ledger is cut."""
    total = statement(worked_by_hand(ledger), TERMS, until=UNTIL).total
    bill = statement(watched(ledger), TERMS, until=UNTIL)
    live, second = bill.as_dict()["idle"]
    assert (live["hours"], live["watched_hours"], live["idle_share"]) == (240 + 24 + 216, 100, 0.9)
    assert (live["idle_amount"], second["idle_share"], second["idle_amount"]) == (226.8, 1.0, 103.68)
    assert (bill.total, cents(bill.total)) == (total, 180_723)
    assert idle_of(bill.lines, bill.idle, "2026-01") == {
        "idle_share": 0.9,
        "idle_cost": 226.8,
        "slots_watched": round(100 / 240, 6),
    }
    monkeypatch.setattr(rollups, "KEPT_AFTER", 3)
    assert statement(ledger, TERMS, until=UNTIL).as_dict()["idle"] == [live, second]
    assert statement(ledger, TERMS, until=UNTIL, month="2026-02", model="m").as_dict()["idle"][1] == second


def test_hours_that_nobody_watched_are_not_known_and_never_none_idle(ledger):
    """Without a counter the share is null and said so; with some, the rest of the hours is said."""
    before = statement(worked_by_hand(ledger), TERMS, until=UNTIL)
    assert [(each["idle_share"], each["idle_amount"]) for each in before.as_dict()["idle"]] == [(None, None)] * 2
    assert idle_of(before.lines, before.idle, "2026-01") == {
        "idle_share": None,
        "idle_cost": None,
        "slots_watched": 0.0,
    }
    assert "live slot: its idle share is not known" in account_table.costs(before, [], "")
    said = account_table.costs(statement(watched(ledger), TERMS, until=UNTIL), [], "")
    assert (
        "live slot: 90.0% idle, which is 226.80 USD of the amount above; of 380.00 of 480.00 hours it is not known"
        in said
    )


def test_what_ends_as_a_month_begins_was_in_the_month_before(ledger):
    """Ten hours up to midnight of the first of February, half of them idle, are January's."""
    worked_by_hand(ledger)
    used = SlotUsed(version="1", slot="blue", start="2026-01-31T14:00:00.000Z", end="2026-02-01T00:00:00.000Z", covered_s=36_000, busy_s=9_000)  # fmt: skip
    ledger.append(used, "m")
    bill = statement(ledger, TERMS, until=UNTIL)
    # Half a processor was busy a quarter of the time, so that half of 10 hours at 2.52 is idle.
    assert idle_of(bill.lines, bill.idle, "2026-01")["idle_cost"] == pytest.approx(12.6)
    assert idle_of(bill.lines, bill.idle, "2026-02")["idle_cost"] is None
