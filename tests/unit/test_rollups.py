"""Roll-ups of the ledger: accounts are the same with and without them, and are never those of another ledger."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from pipeline.accounts import statement as statement_module
from pipeline.accounts.account import account
from pipeline.accounts.deployment_figures import history
from pipeline.accounts.roi import roi
from pipeline.accounts.statement import Terms, statement
from pipeline.errors import LedgerError
from pipeline.ledger import rollups
from pipeline.ledger.events import RunOpened, StepEnded, StepStarted
from pipeline.ledger.rollup_parts import OPEN, PARTS, STEPS
from pipeline.ledger.store import Ledger
from pipeline.runs import ledger_check
from pipeline.settings.accounts import Baseline, Prices
from tests.support.accounts import PRICES, TERMS, UNTIL, worked_by_hand

BASELINE = Baseline(
    source="s", manual_engineer_hours_per_deployment=(8, 16), automated_engineer_hours_per_deployment=(0.5, 2)
)


@pytest.fixture(autouse=True)
def nothing_decoded(monkeypatch):
    """No test finds what another one decoded."""
    monkeypatch.setattr(rollups, "_DECODED", {})


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return worked_by_hand(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}"))


def told(ledger: Ledger, terms: Terms = TERMS):
    """What commands and pages tell, read as they read it: over one connection."""
    with ledger.reading():
        bills = [statement(ledger, terms, until=UNTIL, **of) for of in ({}, {"model": "m"}, {"month": "2026-02"})]
        earned = roi(ledger, terms, BASELINE, until=UNTIL)
        return [sorted(each.lines) for each in bills], earned.as_dict(), account(ledger, terms, "m", UNTIL).as_dict()


def keep(ledger: Ledger, monkeypatch) -> None:
    """Makes the pieces that are missing, however few events they are of."""
    with monkeypatch.context() as short:
        short.setattr(rollups, "KEPT_AFTER", 0)
        rollups.rolled_up(ledger, STEPS)


def change_pieces(folder, monkeypatch, changes, *values):
    """Changes all pieces behind the back of the process, which has decoded them."""
    with sqlite3.connect(folder / "ledger.db") as database:
        database.execute(f"UPDATE rollups SET {changes}", values)
    database.close()
    monkeypatch.setattr(rollups, "_DECODED", {})


def read_anew(ledger: Ledger, monkeypatch, reads) -> set[int]:
    """After which numbers the parts read events while `reads` is done."""
    begins: set[int] = set()

    def watched(part):
        def read(ledger, after, upto, model):
            begins.add(after)
            return PARTS[part](ledger, after, upto, model)

        return read

    with monkeypatch.context() as watching:
        watching.setattr(rollups, "PARTS", {part: watched(part) for part in PARTS})
        reads(ledger)
    return begins


def copied(ledger: Ledger, to, count: int, monkeypatch, every: int = 100) -> Ledger:
    """A ledger with the first `count` events, rolled up after each `every` of them."""
    made = Ledger(f"sqlite:///{to}")
    for number, entry in enumerate(ledger.events()[:count], start=1):
        made.append(entry.event, entry.model, entry.run, entry.step, at=entry.at)
        if number % every == 0:
            keep(made, monkeypatch)
    return made


def test_accounts_are_the_same_however_the_ledger_is_cut_into_pieces(ledger, tmp_path, monkeypatch):
    """Bill, months, ROI and account are the same to the last digit without pieces, with one, and with one for each four events."""
    without = told(ledger)
    assert not ledger.has(rollups.ROLLUPS), "so few events are read anew by each reader"
    of_each = copied(ledger, tmp_path / "cut.db", len(ledger.events()), monkeypatch, every=4)
    assert told(of_each) == without
    keep(ledger, monkeypatch)
    assert told(ledger) == without
    monkeypatch.setattr(rollups, "_DECODED", {})
    assert told(ledger) == without


def test_the_newest_deployments_alone_are_told_as_among_all(ledger):
    """With `last` the deployments that are told have the same figures, and the account says how many there are in all."""
    whole, newest = (account(ledger, TERMS, "m", UNTIL, last=last) for last in (0, 1))
    assert len(whole.deployments) == newest.in_all == whole.in_all > 1
    assert list(newest.deployments) == list(whole.deployments[-1:]) and newest.waits == whole.waits


def test_only_the_events_after_the_last_piece_are_read(ledger, monkeypatch):
    """With a piece up to the head nothing is read anew; after one more event only that one is, and it counts."""
    keep(ledger, monkeypatch)
    head = ledger.head().seq
    assert read_anew(ledger, monkeypatch, told) == set()
    before = statement(ledger, TERMS, until=UNTIL).total
    ledger.append(StepEnded(state="success", wall_s=1.0, cpu_s=1000.0, peak_mb=0.0), "m", "r9", "train", at=UNTIL)
    assert read_anew(ledger, monkeypatch, told) == {head}
    # 1000 s at 7.2 an hour, and the killed attempt costs what the four that ended cost on average.
    assert statement(ledger, TERMS, until=UNTIL).total > before + 2 * 10**12 - 10**12


def test_a_long_ledger_is_rolled_up_by_whoever_reads_it(ledger, monkeypatch):
    """A reader that finds more than so many events without a piece writes one for every part."""
    monkeypatch.setattr(rollups, "KEPT_AFTER", 10)
    statement(ledger, TERMS, until=UNTIL)
    rows = ledger.rows(rollups.sa.select(rollups.ROLLUPS.c.part, rollups.ROLLUPS.c.upto))
    assert {row.part for row in rows} == set(PARTS) and {row.upto for row in rows} == {ledger.head().seq}


@pytest.mark.parametrize("count", [5, 14])
def test_a_ledger_that_was_cut_or_restored_gives_no_sums_of_what_it_lost(ledger, tmp_path, monkeypatch, count):
    """After the last events are gone, and after others came in their place, accounts are those of the events that are there."""
    cut = copied(ledger, tmp_path / "cut.db", count, monkeypatch)
    keep(ledger, monkeypatch)
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        database.execute("DELETE FROM events WHERE seq > ?", (count,))
    database.close()
    assert told(ledger) == told(cut)
    for each in (ledger, cut):
        steps = [StepEnded(state="failed", wall_s=1.0, cpu_s=number, peak_mb=1.0) for number in range(30)]
        each.append_all(steps, "m", "x", "train", at="2026-02-04T00:00:00.000Z")
    assert told(ledger) == told(cut)
    keep(ledger, monkeypatch)
    assert told(ledger) == told(cut)


def test_a_backup_brings_its_own_pieces_and_they_hold(ledger, tmp_path, monkeypatch):
    """A copy of an older file goes on from its own pieces; pieces of a longer ledger put beside it are not read."""
    keep(ledger, monkeypatch)
    shutil.copy(tmp_path / "ledger.db", tmp_path / "backup.db")
    ledger.append(StepEnded(state="success", wall_s=1.0, cpu_s=9.0, peak_mb=1.0), "m", "r9", "train", at=UNTIL)
    keep(ledger, monkeypatch)
    backup = Ledger(f"sqlite:///{tmp_path / 'backup.db'}")
    assert read_anew(backup, monkeypatch, told) == set()
    without = told(backup)
    with sqlite3.connect(tmp_path / "backup.db") as database:
        database.execute("ATTACH ? AS longer", (str(tmp_path / "ledger.db"),))
        database.execute("DELETE FROM rollups")
        database.execute("INSERT INTO rollups SELECT * FROM longer.rollups")
    database.close()
    monkeypatch.setattr(rollups, "_DECODED", {})
    assert told(backup) == without


@pytest.mark.parametrize("other", [rollups.FORMAT - 1, rollups.FORMAT + 1])
def test_a_piece_of_another_format_is_not_read(ledger, tmp_path, monkeypatch, other):
    """What an older or a newer version of the code kept is no sum of this one; an older one is removed with the next write."""
    without = told(ledger)
    keep(ledger, monkeypatch)
    change_pieces(tmp_path, monkeypatch, "format = ?, content = ?", other, '[["m", "nonsense"]]')
    assert told(ledger) == without
    keep(ledger, monkeypatch)
    assert told(ledger) == without
    formats = {row.format for row in ledger.rows(rollups.sa.select(rollups.ROLLUPS.c.format))}
    assert formats == {rollups.FORMAT, other} - ({other} if other < rollups.FORMAT else set())


def test_who_may_not_write_gets_the_same_accounts(ledger, tmp_path, monkeypatch):
    """Where the database refuses the piece, the reader tells the same from the events, and leaves nothing behind."""
    without = told(ledger)
    monkeypatch.setattr(rollups, "KEPT_AFTER", 0)
    with ledger.writing() as connection:
        rollups.ROLLUPS.create(connection)
        connection.exec_driver_sql(
            "CREATE TRIGGER no BEFORE INSERT ON rollups BEGIN SELECT RAISE(ABORT, 'you may not'); END"
        )
    assert told(ledger) == without
    assert ledger.rows(rollups.sa.select(rollups.ROLLUPS)) == []


def test_two_who_keep_at_once_leave_pieces_that_follow_each_other(ledger, tmp_path, monkeypatch):
    """Whoever writes last, a reader finds each event once, though both pieces begin at the same event."""
    other = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    kept, first = rollups._keep, []

    def overtaken(of, made):
        if not first:
            first.append(True)
            of.append(StepEnded(state="success", wall_s=1.0, cpu_s=7.0, peak_mb=1.0), "m", "r9", "train", at=UNTIL)
            rollups.rolled_up(other, STEPS)
        kept(of, made)

    with monkeypatch.context() as racing:
        racing.setattr(rollups, "_keep", overtaken)
        racing.setattr(rollups, "KEPT_AFTER", 0)
        rollups.rolled_up(ledger, STEPS)
    with_pieces = told(ledger)
    rollups.forget(ledger)
    assert told(ledger) == with_pieces and first


def test_a_price_that_changes_within_a_month_parts_its_sums(ledger, monkeypatch):
    """In such a month each step has the price of its day, though a roll-up has the month as a whole."""
    changed = Prices.model_validate({**PRICES.model_dump(exclude={"changes"}), "changes": [CHANGE]})
    for day, run in (("10", "a"), ("20", "b")):
        step = StepEnded(state="success", wall_s=1.0, cpu_s=3600.0, peak_mb=0.0)
        ledger.append(step, "n", run, "train", at=f"2026-03-{day}T00:00:00.000Z")
    keep(ledger, monkeypatch)
    bill = statement(ledger, Terms(changed), model="n", month="2026-03", until="2026-03-21T00:00:00.000Z")
    steps = sum(line.amount for line in bill.lines if line.part == "steps")
    assert steps == round((3.6 + 36.0) * 10**12)


CHANGE = {"from": "2026-03-15", "cpu_core_hour": 36.0}


def test_an_event_that_cannot_be_read_is_the_trouble_of_its_own_model(ledger, tmp_path):
    """The account of another model is told all the same; that of its own, and that of all, names the event."""
    ledger.append(RunOpened(as_of="2026-01-01", reason="r"), "odd", "q")
    seq = ledger.head().seq
    without = statement(ledger, TERMS, until=UNTIL, model="m").total, len(history(ledger, "m", UNTIL).events)
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        database.execute("UPDATE events SET body = 'no JSON' WHERE seq = ?", (seq,))
    database.close()
    assert (statement(ledger, TERMS, until=UNTIL, model="m").total, len(history(ledger, "m", UNTIL).events)) == without
    for model in ("odd", ""):
        with pytest.raises(LedgerError, match=f"event {seq}"):
            history(ledger, model, UNTIL)


def test_verify_removes_the_sums_of_a_ledger_whose_chain_is_broken(ledger, tmp_path, monkeypatch):
    """A row that was changed in place keeps its hash: after `verify` named it, sums are of the rows as they are."""
    keep(ledger, monkeypatch)
    before = statement(ledger, TERMS, until=UNTIL).total
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        database.execute("UPDATE events SET body = replace(body, '1000.0', '2000.0') WHERE kind = 'step_ended'")
    database.close()
    monkeypatch.setattr(ledger_check, "_compared", lambda context: ([], [], []))
    assert ledger_check.verify(SimpleNamespace(ledger=ledger)).first_broken is not None
    assert statement(ledger, TERMS, until=UNTIL).total > before


def test_a_step_that_ends_in_a_later_piece_was_not_killed(ledger, monkeypatch):
    """A start in one piece and its end in the next come to nothing; a second start that has no end counts."""
    ledger.append(StepStarted(), "m", "r8", "train", at="2026-02-01T00:00:00.000Z")
    keep(ledger, monkeypatch)
    ledger.append(
        StepEnded(state="success", wall_s=1.0, cpu_s=1.0, peak_mb=1.0),
        "m", "r8", "train", at="2026-02-01T00:00:01.000Z",
    )  # fmt: skip
    keep(ledger, monkeypatch)
    more = Counter()
    for _, run, step, count in rollups.rolled_up(ledger, OPEN)[OPEN]:
        more[run, step] += count
    assert +more == {("r3", "train"): 1}


def test_a_step_that_ends_while_a_bill_is_read_is_in_it(ledger, monkeypatch):
    """A bill that is read while a new step ends adds up, and has no line that is less than nothing."""
    ledger.append(StepEnded(state="success", wall_s=1.0, cpu_s=1.0, peak_mb=1.0), "m", "r9", "train", at=UNTIL)
    read, late = statement_module.compute_lines, [ledger]

    def overtaken(*arguments, **of):
        found = read(*arguments, **of)
        if late:
            late.pop().append(StepEnded(state="failed", cpu_s=9.0, wall_s=1.0, peak_mb=1.0), "m", "r9", "new", at=UNTIL)
        return found

    monkeypatch.setattr(statement_module, "compute_lines", overtaken)
    during = statement(ledger, TERMS, until=UNTIL)
    assert during.total == statement(ledger, TERMS, until=UNTIL).total
    assert all(line.attempts >= 0 and line.amount >= 0 for line in during.lines)


def test_the_bill_of_a_model_has_nothing_of_another_models_run(ledger):
    """Also where the run's name is asked for, or both have runs of that name."""
    run = next(entry.run for entry in ledger.events(StepEnded) if entry.model == "m")
    ledger.append(StepEnded(state="success", wall_s=1.0, cpu_s=9.0, peak_mb=1.0), "other", run, "land", at=UNTIL)
    assert {line.model for line in statement(ledger, TERMS, until=UNTIL, model="m").lines} == {"m"}
    assert statement(ledger, TERMS, until=UNTIL, model="nobody", run=run).lines == ()


def test_a_piece_that_was_changed_to_other_rows_is_made_of_its_events_anew(ledger, tmp_path, monkeypatch):
    """Other valid JSON, and the rows of another piece, have not the digest that was written with them."""
    without = told(ledger)
    keep(ledger, monkeypatch)
    change_pieces(tmp_path, monkeypatch, "content = replace(content, '1000000', '9000000')")
    assert told(ledger) == without
    change_pieces(tmp_path, monkeypatch, "content = (SELECT content FROM rollups WHERE part = 'bytes')")
    assert told(ledger) == without


@pytest.mark.parametrize("content", ["", '[["m", "train"', "null", "[]"])
def test_a_torn_piece_is_made_of_its_events_anew(ledger, tmp_path, monkeypatch, content):
    """What cannot be read of a piece ends no account, and changes no figure."""
    without = told(ledger)
    keep(ledger, monkeypatch)
    change_pieces(tmp_path, monkeypatch, "content = ?", content)
    assert told(ledger) == without


def test_who_reads_does_not_wait_for_who_writes(ledger, tmp_path, monkeypatch):
    """While another process writes, a reader tells the same at once, and leaves the piece to the next one."""
    without = told(ledger)
    writer = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    keep(ledger, monkeypatch)
    assert time.monotonic() - began < 10, "the ledger's own wait is 30 s"
    writer.close()
    assert not ledger.has(rollups.ROLLUPS) and told(ledger) == without
