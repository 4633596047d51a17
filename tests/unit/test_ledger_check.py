"""`verify` finds what the chain alone cannot show, by the heads that are written down outside the ledger."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.ledgers import ledger_of
from pipeline.cli.main import main
from pipeline.context import Context
from pipeline.errors import LedgerError, RegistryAwayError
from pipeline.ledger.chain import Anchor, Head, later
from pipeline.ledger.events import LedgerVerified
from pipeline.ledger.rollout_events import RolloutEnded
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route, RoutedSlot
from pipeline.runs.ledger_check import accept, verify, verify_daily
from pipeline.settings.environment import Environment
from tests.support.ledger import filled

ROUTE = Route("churn", RoutedSlot("blue", "3", "http://127.0.0.1:5001"))


class Tags:
    """A registry that holds a head in the tags of each version; away when it has None."""

    def __init__(self):
        self.heads = {}

    def anchor(self, model, version, head):
        self.heads[version] = later(head, self.heads.get(version))

    def anchors(self, names):
        if self.heads is None:
            raise RegistryAwayError("mlflow", "does not answer", "start it: `make up`")
        return [Anchor(f"version {version} of churn in MLflow", head) for version, head in self.heads.items()]


@pytest.fixture
def context(project):
    """A context with a ledger of 10 events and no anchor yet."""
    made = Context(Environment.read().at(project, project / "home"), filled(ledger_of(project / "home"), 10))
    vars(made)["registry"] = Tags()
    return made


def head_of(context):
    return context.ledger.events()[-1].head


def change(context, statement):
    path = context.ledger.url.removeprefix("sqlite:///")
    with sqlite3.connect(path) as connection:
        connection.execute(statement)


def test_a_ledger_that_agrees_with_its_anchors_is_intact(context):
    """A ledger with all that its anchors name is intact, also when it has grown since."""
    route_file.write(context.home, ROUTE, head=head_of(context))
    context.registry.anchor("churn", "3", head_of(context))
    filled(context.ledger)
    checked = verify(context)
    assert (checked.intact, checked.events, checked.anchors, checked.unchecked) == (True, 15, 2, ())


@pytest.mark.parametrize("last", [1, 4, 10])
@pytest.mark.parametrize("place", ["the route of churn", "version 3 of churn in MLflow"])
def test_deleted_last_events_are_missed(context, place, last):
    """A chain without its last events is not intact when a route file or a version's tags know a later event."""
    if place.startswith("the route"):
        route_file.write(context.home, ROUTE, head=head_of(context))
    else:
        context.registry.anchor("churn", "3", head_of(context))
    change(context, f"DELETE FROM events WHERE seq > {10 - last}")
    checked = verify(context)
    assert not checked.intact
    gone = f"at least {last} events are missing" if last > 1 else "at least 1 event is missing"
    assert f"{place} was written at event 10: {gone}; compare it with a backup" in checked.problem


def test_a_chain_that_was_written_anew_is_another(context):
    """A ledger whose chain was made anew as a whole is not the one that its anchors name."""
    route_file.write(context.home, ROUTE, head=head_of(context))
    change(context, "DELETE FROM events")
    filled(context.ledger, 12)
    assert context.ledger.verify() == (12, None)
    assert "event 10 is another than the one at which the route of churn was written" in verify(context).problem


@pytest.mark.parametrize("anchored", [True, False])
def test_a_ledger_that_was_moved_away_is_not_intact(context, anchored):
    """An empty ledger beside a route is not intact, also when an older version wrote that route."""
    route_file.write(context.home, ROUTE, head=head_of(context) if anchored else None)
    for file in context.home.glob("ledger.db*"):
        file.rename(file.with_name(f"moved-{file.name}"))
    empty = Context(context.environment, ledger_of(context.home))
    vars(empty)["registry"] = context.registry
    assert verify(empty).events == 0
    assert "it has no event, but " in verify(empty).problem
    assert "the route of churn" in verify(empty).problem


def test_a_new_ledger_is_intact(project):
    """A new project's ledger has no event and is intact."""
    assert verify(Context(Environment.read().at(project, project / "home"), ledger_of(project / "home"))).intact


def test_a_ledger_that_was_restored_on_purpose_can_be_accepted(context):
    """After a restore a person accepts the anchors of what is lost; what is lost later is missed again."""
    context.registry.anchor("churn", "3", head_of(context))
    change(context, "DELETE FROM events WHERE seq > 8")
    assert accept(context, "restored from the backup of Monday").intact
    filled(context.ledger, 10)
    context.registry.anchor("churn", "3", head_of(context))
    assert verify(context).intact
    change(context, "DELETE FROM events WHERE seq > 15")
    assert "at least 4 events are missing" in verify(context).problem


def test_an_anchor_never_goes_back(context):
    """A route that is written again by a shorter ledger, or without one, keeps its later anchor."""
    route_file.write(context.home, ROUTE, head=head_of(context))
    route_file.write(context.home, ROUTE, head=Head(3, "0" * 64))
    route_file.write(context.home, ROUTE)
    assert route_file.head_of(context.home, "churn") == head_of(context)


def test_an_anchor_changes_nothing_for_traefik(tmp_path):
    """The anchor is in the route file's first line only, and a file without one is still read."""
    plain = route_file.write(tmp_path / "plain", ROUTE)
    assert route_file.head_of(tmp_path / "plain", "churn") is None
    assert route_file.read(tmp_path / "plain", "churn") == plain
    anchored = route_file.write(tmp_path / "anchored", ROUTE, head=Head(3, "a" * 64))
    assert route_file.read(tmp_path / "anchored", "churn") == anchored
    rest = [
        (tmp_path / name / "routes" / "churn.yaml").read_text().partition("\n")[2].replace(route.stamp, "STAMP")
        for name, route in (("plain", plain), ("anchored", anchored))
    ]
    assert rest[0] == rest[1]


def test_without_mlflow_it_says_what_was_not_checked(context):
    """While MLflow is away the route is still compared, and the tags are named as not checked."""
    route_file.write(context.home, ROUTE, head=head_of(context))
    context.registry.heads = None
    checked = verify(context)
    assert checked.intact
    assert "not checked: the versions' tags in MLflow: mlflow: does not answer" in checked.notes[0]
    change(context, "DELETE FROM events WHERE seq > 8")
    assert not verify(context).intact


def test_the_monitor_verifies_once_a_day_and_says_so(context):
    """The daily check writes an event and anchors its head; a second one on the same day reads nothing."""
    context.ledger.append(RolloutEnded(version="3", slot="blue"), "churn")
    assert "the chain is intact" in verify_daily(context, "monitor/1", "churn")
    (first,) = context.ledger.events(LedgerVerified, model="churn")
    assert (first.event.events, first.run) == (11, "monitor/1")
    assert context.registry.heads["3"] == first.head
    assert "verified already" in verify_daily(context, "monitor/2", "churn")
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    later_context = Context(context.environment, context.ledger, clock=lambda: tomorrow)
    vars(later_context)["registry"] = context.registry
    verify_daily(later_context, "monitor/3", "churn")
    assert len(context.ledger.events(LedgerVerified)) == 2


def test_a_broken_ledger_fails_the_daily_check_each_time(context):
    """A ledger that is not whole fails each monitor run in one line, and the event says why, where, and since when."""
    change(context, "UPDATE events SET step = 'other' WHERE seq = 4")
    for model in ("churn", "other", "churn"):
        with pytest.raises(LedgerError, match="the chain breaks at event 4; compare that row with a backup"):
            verify_daily(context, "monitor/1", model)
    noted = context.ledger.events(LedgerVerified)
    assert [(e.event.intact, e.event.broken_at) for e in noted] == [(False, 4)] * 3
    assert [e.event.since for e in noted] == [None, noted[0].at, noted[0].at]


def test_the_command_says_it_in_one_line(project, capsys, monkeypatch):
    """`verify` exits with 1 and one line for a ledger that has lost its end, for a torn file, and for a file of another kind."""
    home = project / "home"
    monkeypatch.setenv("PERENNIAL_HOME", str(home))
    ledger = filled(ledger_of(home), 150)
    route_file.write(home, ROUTE, head=ledger.events()[-1].head)
    assert main(["verify"]) == 0
    assert capsys.readouterr().out.startswith("ledger: 150 events, the chain is intact; 1 anchors outside it agree")
    change(Context(Environment.read(), ledger), "DELETE FROM events WHERE seq > 140")
    assert main(["verify"]) == 1
    assert "at least 10 events are missing" in capsys.readouterr().out
    file = Path(ledger.url.removeprefix("sqlite:///"))
    change(Context(Environment.read(), ledger), "PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(file.read_bytes())
    content[3 * 4096 : 12 * 4096] = b"\xff" * (9 * 4096)
    for damaged in (bytes(content), b"this is no database at all" * 500):
        for beside in home.glob("ledger.db*"):
            beside.unlink()
        file.write_bytes(damaged)
        assert main(["verify"]) == 1
        said = capsys.readouterr()
        assert len((said.out + said.err).splitlines()) == 1
        assert "backup" in said.out + said.err
