"""People are told once for each matter, with what to do next, and a fault or an outage of one recipient touches no other."""

import threading
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from harness.ledgers import ledger_of
from harness.project import change_params
from pipeline.errors import LedgerError
from pipeline.ledger.approval_events import ApprovalAsked, Approved, Rejected
from pipeline.ledger.events import DriftChecked, LedgerVerified
from pipeline.ledger.slo_events import BudgetBurning, DiskHasRoom, NoticeFailed, NoticeSent
from pipeline.notices import sending, teller
from pipeline.notices.book import GIVE_UP, Book
from pipeline.notices.listing import listing
from pipeline.notices.sending import Sent
from pipeline.notices.teller import Teller
from pipeline.settings.models import load
from pipeline.settings.notify import Notices, Recipient

BURNS = BudgetBurning(objective="p95_ms", severity="critical", rate=19, hours=1, reason="96 of 100 were slower")
ALL = ("info", "warning", "critical")


def drift(since="2024-03-01T00:00:00+00:00"):
    return DriftChecked(
        verdict="drift", reason="", champion="1", as_of="2024-03-02", alarm={"since": since, "ended": ""}
    )


class Told:
    """In place of apprise: keeps what each address was told; `down` are addresses that take nothing."""

    def __init__(self):
        self.of, self.down, self.calls = {}, set(), 0

    def __call__(self, address, matters):
        self.calls += 1
        if address in self.down:
            return Sent(0, "it does not answer")
        self.of.setdefault(address, []).extend(matter.said for matter in matters)
        return Sent(len(matters))


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A ledger, recipients, and `turn`, which lets a teller look until nothing is under way."""
    monkeypatch.setattr(teller, "PAUSE_S", 0.01)
    made = SimpleNamespace(ledger=ledger_of(tmp_path), told=Told(), to=[], disk_free=0.0, models={}, tellers=[])

    def new():
        notices = SimpleNamespace
        settings = lambda: SimpleNamespace(notices=notices(to=made.to, disk_free=made.disk_free), models=made.models)  # noqa: E731
        made.tellers.append(Teller(made.ledger, settings, tmp_path, made.told))
        return made.tellers[-1]

    def turn(one, looks=3):
        for _ in range(looks):
            one.look()
            for line in one._lines.values():
                if line.under_way is not None:
                    line.under_way.exception(60)
            time.sleep(0.02)

    made.new, made.turn = new, turn
    yield made
    for one in made.tellers:
        one.close()


def recipient(url="json://one", **more):
    return Recipient(url=url, **{"severities": ALL, **more})


def test_each_matter_is_told_once_also_after_a_restart(world):
    """A matter that goes on is told once, to each recipient, however often the service starts anew."""
    world.to = [recipient(), recipient("json://two")]
    first = world.new()
    world.turn(first)
    for _ in range(3):
        world.ledger.append(drift(), "churn", "run")
        world.turn(first)
    world.turn(world.new())
    assert {address: len(said) for address, said in world.told.of.items()} == {"json://one": 1, "json://two": 1}
    world.ledger.append(drift(since="2024-04-01T00:00:00+00:00"), "churn", "run")
    world.turn(world.new())
    assert len(world.told.of["json://one"]) == 2
    assert len(world.ledger.events(NoticeSent)) == 4


def test_a_broken_chain_is_one_matter_of_no_model_until_it_is_mended(world):
    """Each monitor finds it again, with another number of missing events: that is told once, and to who takes all models."""
    world.to = [recipient(), recipient("json://churn", models=["churn"])]
    one = world.new()
    world.turn(one)

    def checked(missing, model, since=None, **more):
        problem = f"ledger: at least {missing} events are missing"
        return world.ledger.append(LedgerVerified(intact=False, events=9, problem=problem, since=since, **more), model)

    first = checked(1, "churn")
    checked(2, "other", first.at)
    checked(3, "churn", first.at)
    world.turn(one)
    assert {url: len(said) for url, said in world.told.of.items()} == {"json://one": 1}
    checked(3, "other", first.at, broken_at=4)
    world.turn(one)
    world.ledger.append(LedgerVerified(intact=True, events=9), "churn")
    checked(1, "churn")
    world.turn(world.new())
    assert len(world.told.of["json://one"]) == 3


def test_nobody_is_told_to_approve_what_was_decided_meanwhile(world):
    """A version that was approved or rejected before a recipient could be told is no matter any more; another one is."""
    world.to = [recipient()]
    world.turn(world.new())
    for version in ("2", "3", "4"):
        ledger_asks(world.ledger, version)
    world.ledger.append(Approved(version="2", digest="d", by="ann"), "churn")
    world.ledger.append(Rejected(version="3", by="ann", reason="no"), "churn")
    world.turn(world.new())
    assert [said[:9] for said in world.told.of["json://one"]] == ["version 4"]


def ledger_asks(ledger, version):
    ledger.append(ApprovalAsked(version=version, digest="d", until="2030-01-01T00:00:00+00:00"), "churn")


def test_a_new_recipient_is_told_from_then_on(world):
    """What happened before a recipient was there, it is not told."""
    world.ledger.append(BURNS, "churn")
    world.to = [recipient()]
    world.turn(world.new())
    assert world.told.of == {}
    world.ledger.append(BURNS, "churn")
    world.turn(world.tellers[0])
    assert len(world.told.of["json://one"]) == 1


def test_what_happens_while_the_service_is_down_is_told_when_it_is_back(world):
    """An event of a time without the service is told at its next start."""
    world.to = [recipient()]
    world.turn(world.new())
    world.ledger.append(BURNS, "churn")
    world.turn(world.new())
    assert len(world.told.of["json://one"]) == 1


def test_recipients_are_told_by_model_team_and_severity(world):
    """Each gets the models and severities that it lists; what is no model's goes to those who take all models."""
    world.models = {"churn": SimpleNamespace(team="growth"), "other": SimpleNamespace(team=None)}
    world.to = [
        recipient("json://all"),
        recipient("json://churn", models=("chu*",)),
        recipient("json://growth", teams=("growth",), severities=("critical",)),
        recipient("json://info", severities=("info",)),
    ]
    one = world.new()
    world.turn(one)
    for model in ("churn", "other"):
        world.ledger.append(BURNS, model)
        world.ledger.append(drift(), model)
    world.ledger.append(LedgerVerified(intact=False, events=9, problem="event 4 was changed"))
    world.turn(one)
    assert {a: len(said) for a, said in world.told.of.items()} == {
        "json://all": 5,
        "json://churn": 2,
        "json://growth": 1,
    }


def test_an_outage_of_one_recipient_delays_no_other_and_loses_nothing(world):
    """While one takes nothing the other is told; the failure is noted once, and all comes when it is back."""
    world.to = [recipient("json://down"), recipient("json://up")]
    world.told.down.add("json://down")
    one = world.new()
    world.turn(one)
    for _ in range(2):
        world.ledger.append(BURNS, "churn")
        world.turn(one, 6)
    assert len(world.told.of["json://up"]) == 2
    assert [entry.event.target for entry in world.ledger.events(NoticeFailed)] == ["json://down"]
    world.told.down.clear()
    # How often it failed until then, and so how long its pause is, depends on the machine.
    until = time.monotonic() + 60
    while len(world.told.of.get("json://down", ())) < 2:
        assert time.monotonic() < until
        world.turn(one, 1)
    assert len(world.told.of["json://down"]) == 2


def test_a_recipient_that_hangs_delays_no_other(world):
    """While one recipient is still being told, the next matter reaches the other."""
    hangs, told = threading.Event(), world.told

    def send(address, matters):
        return (
            hangs.wait(60) and Sent(0, "late") if address == "json://hangs" else Told.__call__(told, address, matters)
        )

    world.to = [recipient("json://hangs"), recipient("json://up")]
    one = world.new()
    one.send = send
    one.look()
    until = time.monotonic() + 60
    for expected in (1, 2):
        world.ledger.append(BURNS, "churn")
        while len(told.of.get("json://up", ())) < expected:
            assert time.monotonic() < until
            one.look()
            time.sleep(0.02)
    hangs.set()


def test_what_nobody_could_be_told_of_for_days_is_given_up(world):
    """A matter that is older than the bound is given up once its recipient fails again, and the ledger says so."""
    world.to = [recipient()]
    world.told.down.add("json://one")
    one = world.new()
    world.turn(one)
    world.ledger.append(BURNS, "churn", at=(datetime.now(UTC) - GIVE_UP - timedelta(minutes=1)).isoformat())
    world.turn(one, 6)
    assert [entry.event.given_up for entry in world.ledger.events(NoticeFailed)] == [False, True]
    calls = world.told.calls
    world.turn(one)
    assert world.told.calls == calls


def test_a_disk_that_gets_full_is_told_once_and_again_after_it_had_room(world, monkeypatch):
    """The event is written when the free share falls below the limit, and once more only after there was room."""
    monkeypatch.setattr(teller, "DISK_S", 0.0)
    free = SimpleNamespace(total=1000 * 2**20, free=40 * 2**20)
    monkeypatch.setattr(teller.shutil, "disk_usage", lambda folder: free)
    world.to, world.disk_free = [recipient()], 0.05
    world.turn(world.new())
    world.turn(world.new())
    assert len(world.told.of["json://one"]) == 1
    for megabytes in (500, 40):
        free.free = megabytes * 2**20
        world.turn(world.tellers[-1])
    assert (len(world.told.of["json://one"]), len(world.ledger.events(DiskHasRoom))) == (2, 1)


def test_a_disk_too_full_for_the_ledger_is_told_all_the_same(world, monkeypatch):
    """Where no event can be written, the recipient is told, and not again and again."""
    monkeypatch.setattr(teller, "DISK_S", 0.0)
    monkeypatch.setattr(teller.shutil, "disk_usage", lambda folder: SimpleNamespace(total=100, free=1))
    world.to, world.disk_free = [recipient()], 0.05
    one = world.new()
    one.book.read(world.to)

    def full(*_, **__):
        raise LedgerError("ledger", "the disk is full", "make room")

    monkeypatch.setattr(world.ledger, "append", full)
    world.turn(one, 5)
    assert len(world.told.of["json://one"]) == 1


def test_a_ledger_that_is_away_is_told(world, monkeypatch):
    """When the ledger cannot be read for a minute, people are told once."""
    world.to = [recipient()]
    one = world.new()
    world.turn(one)

    def away(*_, **__):
        raise LedgerError("ledger", "is no database", "restore it")

    monkeypatch.setattr(teller, "AWAY_S", 0.0)
    monkeypatch.setattr(world.ledger, "events", away)
    monkeypatch.setattr(world.ledger, "append", away)
    world.turn(one, 5)
    assert world.told.of["json://one"] == ["ledger: is no database; restore it"]


def test_many_matters_are_one_message():
    """More than five matters come together, the most severe first; those that do not fit are counted."""
    ledger_free = [
        SimpleNamespace(severity=s, title=f"[{s}] m{n}", said="x", next_step="y")
        for n in range(25)
        for s in ("info", "critical")
    ]
    title, text, severity = sending.together(ledger_free)
    assert (title, severity) == ("[critical] Perennial: 50 matters, 25 critical", "critical")
    assert text.startswith("- [critical]")
    assert text.endswith("and 10 more: perennial notify lists them")


def test_secrets_of_an_address_are_in_no_reason():
    """What a failure says does not have the parts of the address that may be secret."""
    hidden = sending._hidden(
        "slack.com refused TIiajkdnlazkcOXrIdevi7FQ", "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    )
    assert hidden == "slack.com refused …"


def test_one_faulty_recipient_touches_no_other(project):
    """Each wrong entry is a fault by its place; the right ones are read, and every model is."""
    change_params(
        project,
        "notify",
        {
            "to": [
                {"url": "json://127.0.0.1:9000/x"},
                {"url": "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"},
                {"url": "mailto://ann:secret@example.com"},
                {"url": "NOTIFY_A", "severity": "critical"},
                {"url": "NOTIFY_B", "severities": ["urgent"]},
                {"url": "NOTIFY_C"},
                {"url": "NOTIFY_C"},
                7,
            ],
            "disk_free": 2,
            "sound": "on",
        },
    )  # fmt: skip
    params = load(project)
    assert [r.label for r in params.notices.to] == ["json://127.0.0.1:9000", "NOTIFY_C"]
    assert (list(params.models), params.broken, params.faults) == (["churn"], {}, {})
    told = {key: str(fault) for key, fault in params.notices.faults.items()}
    assert set(told) == {"notify.sound", "notify.disk_free", *(f"notify.to.{n}" for n in (1, 2, 3, 4, 6, 7))}
    assert "notify.to.1.url: params.yaml holds no secrets" in told["notify.to.1"]
    assert "secret@" not in "".join(told.values())
    assert "unknown key notify.to.3.severity" in told["notify.to.3"]
    assert params.notices.disk_free == 0.1


@pytest.mark.parametrize(("raw", "told"), [([], "must be a mapping"), ({"to": {}}, "notify.to: must be a list")])
def test_a_section_of_another_form_says_so(raw, told):
    """`notify` that is no mapping, or whose `to` is no list, is one fault and tells nobody."""
    read = Notices.read(raw)
    assert read.to == () and told in str(next(iter(read.faults.values())))


def test_the_list_says_who_was_told_and_whom_a_matter_waits_for(world, monkeypatch):
    """Each matter of the last days is listed with when a recipient was told, or why it waits."""
    monkeypatch.delenv("NOTIFY_X", raising=False)
    world.to = [recipient("json://up"), recipient("NOTIFY_X")]
    one = world.new()
    world.turn(one)
    world.told.down.add("")
    world.ledger.append(BURNS, "churn")
    world.turn(one)
    shown = listing(world.ledger, SimpleNamespace(notices=SimpleNamespace(to=tuple(world.to)), models={}))
    (line,) = shown.lines
    assert list(line.told) == ["json://up"] and line.waiting == {"NOTIFY_X": "it does not answer"}
    assert "the variable NOTIFY_X is not set here" in shown.text()
    assert shown.as_dict()["matters"][0]["severity"] == "critical"


def test_a_row_that_cannot_be_read_stops_no_other(world):
    """A damaged event is left out, and what comes after it is told."""
    world.to = [recipient()]
    one = world.new()
    world.turn(one)
    broken = world.ledger.append(BURNS, "churn")
    with world.ledger.writing() as connection:
        connection.exec_driver_sql(f"UPDATE events SET body = '{{' WHERE seq = {broken.seq}")
    world.ledger.append(BURNS, "churn")
    world.turn(one)
    assert len(world.told.of["json://one"]) == 1
    assert isinstance(one.book, Book)
