"""The ledger on a real Postgres, as workers on several machines share it: one chain, one holder of a lease, one line when it is away."""

from __future__ import annotations

import multiprocessing

import psycopg2
import pytest

from pipeline.accounts.account import account
from pipeline.accounts.money import cents
from pipeline.accounts.statement import statement
from pipeline.errors import LedgerError
from pipeline.ledger import lease, rollups
from pipeline.ledger.events import GatesChecked, RunOpened, UnknownEvent, VersionRegistered
from pipeline.ledger.rollout_events import AbortAsked, RolledBack, RolloutEnded, RolloutStarted
from pipeline.ledger.store import Ledger
from pipeline.ledger.timeline import live_at
from pipeline.runs import audit
from pipeline.runs.audit_newest import newest_lines
from pipeline.services import artifact_bytes
from tests.support.accounts import BY_HAND, TERMS, UNTIL, worked_by_hand
from tests.support.ledger import filled, raced


def test_many_processes_make_one_chain(shared):
    """Four processes that write to one Postgres ledger make one unbroken chain."""
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_fill, args=(shared,)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    ledger = Ledger(shared)
    assert ledger.verify() == (100, None)
    assert [event.seq for event in ledger.events(AbortAsked, after=90)] == list(range(91, 101))
    ledger.append(AbortAsked(reason="another"), "loyal")
    assert ledger.models() == {"m", "loyal"}
    with lease.held(ledger, "m") as held:
        assert lease.holder(ledger, "m").token == held.token
        assert lease.holder(ledger, "m").is_alive


def _fill(url):
    filled(Ledger(url), 25)


@pytest.mark.parametrize(
    "tamper",
    [
        "UPDATE events SET body = '{\"i\":9}' WHERE seq = 3",
        "DELETE FROM events WHERE seq = 3",
        "UPDATE events SET seq = 99 WHERE seq = 3",
    ],
)
def test_a_changed_or_missing_row_breaks_the_chain(shared, tamper):
    """A row of a Postgres ledger that was changed, deleted or renumbered breaks the chain."""
    ledger = filled(Ledger(shared))
    with psycopg2.connect(shared) as connection:
        connection.cursor().execute(tamper)
    connection.close()
    assert ledger.verify()[1] in (3, 4)


def test_the_order_is_that_of_the_numbers_when_a_clock_is_set_back(shared):
    """On Postgres too a clock that was set back changes no order, and is marked."""
    ledger = Ledger(shared)
    for version, at in (("1", "01-01"), ("2", "01-10"), ("3", "01-08"), ("4", "01-12")):
        ledger.append(RolloutEnded(version=version, slot="blue"), "m", at=f"2024-{at}T00:00:00.000Z")
    live = {day: live_at(ledger, "m", f"2024-01-{day}T00:00:00.000Z").version for day in ("09", "11", "12")}
    assert live == {"09": "1", "11": "3", "12": "4"}
    assert [(step.seq, step.earlier) for step in ledger.clock_steps()] == [(3, "2024-01-10T00:00:00.000Z")]


def test_a_chain_that_lost_its_end_is_shorter_than_the_head_that_was_written_down(shared):
    """On Postgres too the chain's head is known, a row without JSON is named, and lost last rows make the chain shorter."""
    ledger = filled(Ledger(shared), 10)
    head = ledger.events()[-1].head
    checked = ledger.check_chain({10})
    assert (checked.head, checked.hashes) == (head, {10: head.hash})
    with psycopg2.connect(shared) as connection:
        connection.cursor().execute("DELETE FROM events WHERE seq > 7")
        connection.cursor().execute("UPDATE events SET body = 'no JSON' WHERE seq = 6")
    connection.close()
    checked = ledger.check_chain({10})
    assert (checked.events, checked.broken, checked.hashes) == (6, 6, {})


def test_any_text_comes_back_as_it_went(shared):
    """Any text in an event's body comes back from Postgres unchanged."""
    body = {"reason": "naïve ☕ \x00 \\u0000 'quoted' \"twice\" %s :name", "n": 1e-12, "deep": [{"a": None}]}
    ledger = Ledger(shared)
    ledger.append(UnknownEvent(values=body), "m", "r", "s")
    assert ledger.events()[0].body == body
    assert ledger.verify() == (1, None)


def test_of_two_hundred_races_of_two_processes_each_has_one_winner(shared, world_folder):
    """Of two processes that want a lease on Postgres at once, one gets it, in each of 200 races."""
    raced(world_folder)
    assert not (world_folder / "ledger.db").exists()


def test_a_database_that_is_away_is_one_line_and_the_chain_goes_on_after_it(shared, postgres):
    """A Postgres that is away gives one line without its password, and the chain goes on when it is back."""
    ledger = filled(Ledger(shared))
    postgres.stop()
    try:
        with pytest.raises(LedgerError) as refused:
            ledger.append(AbortAsked(reason="one"), "m")
    finally:
        postgres.start()
    assert "\n" not in str(refused.value)
    assert "unused" not in str(refused.value), "the password"
    filled(ledger)
    assert ledger.verify() == (10, None)


def test_the_bill_on_postgres_is_the_one_that_is_worked_by_hand(shared):
    """Sums in Postgres' own SQL, its JSON and its sort order give the same bill, to the cent; the database says how large the ledger is."""
    bill = statement(worked_by_hand(Ledger(shared)), TERMS, until=UNTIL)
    assert {part: cents(sum(line.amount for line in lines)) for part, lines in bill.by_part().items()} == BY_HAND
    assert account(Ledger(shared), TERMS, "m", UNTIL).as_dict()["figures"]["stopped_by_a_rollback"]["value"] == 1
    assert 8192 < artifact_bytes.ledger_bytes(Ledger(shared)) < 10**9


def test_roll_ups_on_postgres_tell_the_same_to_who_may_only_read(shared, monkeypatch):
    """The bill is the one by hand with pieces too; a role that may only read, also of the events alone, gets it with and without them."""
    ledger = worked_by_hand(Ledger(shared))
    with psycopg2.connect(shared) as connection:
        connection.cursor().execute(
            "DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN; GRANT SELECT ON events TO reader"
        )
    reader = Ledger(shared.replace("perennial:unused@", "reader@"))
    monkeypatch.setattr(rollups, "KEPT_AFTER", 0)

    def told(of):
        bill = statement(of, TERMS, until=UNTIL)
        return {part: cents(sum(line.amount for line in lines)) for part, lines in bill.by_part().items()}

    assert told(reader) == BY_HAND and not reader.has(rollups.ROLLUPS), "it may write none"
    assert told(ledger) == told(ledger) == BY_HAND and ledger.has(rollups.ROLLUPS)
    assert told(reader) == BY_HAND, "who was granted the events alone reads no piece"
    with ledger.writing(), reader.reading():
        monkeypatch.setattr(rollups, "_DECODED", {})
        assert told(reader) == BY_HAND, "and waits for no writer"
    with psycopg2.connect(shared) as connection:
        connection.cursor().execute("GRANT SELECT ON rollups TO reader; DELETE FROM events WHERE seq > 8")
    without_them = Ledger(shared)
    assert told(reader) == told(without_them) != BY_HAND
    with psycopg2.connect(shared) as connection:
        connection.cursor().execute("DROP OWNED BY reader; DROP ROLE reader")


@pytest.mark.parametrize("kind", ["", *audit.KINDS])
def test_the_newest_lines_of_an_audit_on_postgres_are_those_of_all_its_events(shared, kind):
    """What a line rests on is asked for by Postgres' own means, and what only warns is found in its text."""
    ledger = Ledger(shared)
    warns = {"gate": "slices", "passed": False, "mode": "warn", "reason": "plan basic is worse"}
    for event, run in (
        (RunOpened(as_of="2024-03-01", reason="by hand", asked_by="ann"), "r2"),
        (GatesChecked(verdicts=[warns]), "r2"),
        (VersionRegistered(version="2", mlflow_run="m2", data_version="d2.dir", as_of="2024-03-01"), "r2"),
        (RolloutStarted(version="2", digest="p2", asked_by="cid", rollout=7), ""),
        (RolloutEnded(version="2", slot="green", digest="p2", rollout=7), ""),
        (RolledBack(version="1", digest="p1", left="2", reason="worse on labels", rollout=8), "monitor__churn/1"),
    ):
        ledger.append(event, "churn", run)
    whole, found, before, older = audit.audit(ledger, "churn", kind), [], 0, True
    while older:
        page = newest_lines(ledger, "churn", kind, 2, before)
        found, before, older = [*page.lines, *found], page.before, page.older
    assert found == whole
    assert kind in ("approval", "settings") or found
