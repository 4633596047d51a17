"""The overview shows the newest look at what is live, and waits for none that takes long."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from pipeline.context import Context
from pipeline.errors import LedgerError
from pipeline.ledger.events import StepStarted
from pipeline.pages import newest_status
from pipeline.rollout.routing import route_file


@pytest.fixture
def world(project, ledger, monkeypatch):
    """A context, and what the next look waits for and gives."""
    context = Context(SimpleNamespace(project=project, home=project, params_read=None), ledger)
    may_end = threading.Event()
    looks = SimpleNamespace(may_end=may_end, says="1", error=None)

    def status(_model):
        assert may_end.wait(10)
        if looks.error is not None:
            raise looks.error
        return [SimpleNamespace(as_dict=lambda: {"model": looks.says})]

    monkeypatch.setattr(newest_status, "traffic", lambda _context: SimpleNamespace(status=status))
    return context, looks


def models(context):
    return newest_status.begin(context)().models


def test_a_page_shows_the_look_before_while_a_new_one_goes_on(world):
    """After a change of the ledger the earlier look is shown until the new one is there; then the new one."""
    context, looks = world
    looks.may_end.set()
    assert models(context) == [{"model": "1"}]
    looks.may_end.clear()
    looks.says = "2"
    context.ledger.append(StepStarted(), "churn", "r", "s")
    assert models(context) == [{"model": "1"}]
    looks.may_end.set()
    newest_status.renew(context)
    assert models(context) == [{"model": "2"}]


def test_no_look_is_shown_that_is_too_old(world, monkeypatch):
    """A look older than SHOWN_S is not shown: the new one is waited for."""
    context, looks = world
    looks.may_end.set()
    models(context)
    monkeypatch.setattr(newest_status, "SHOWN_S", 0.0)
    monkeypatch.setattr(newest_status, "KEPT_S", 0.0)
    looks.says = "2"
    assert models(context) == [{"model": "2"}]


def test_what_is_live_is_never_of_the_look_before(world):
    """Once a route has moved the new look is waited for, also beside one that began before."""
    context, looks = world
    looks.may_end.set()
    assert models(context) == [{"model": "1"}]
    looks.may_end.clear()
    context.ledger.append(StepStarted(), "churn", "r", "s")
    assert models(context) == [{"model": "1"}]
    routes = route_file.routes_folder(context.home)
    routes.mkdir(parents=True)
    (routes / "churn.yaml").write_text("version: 2")
    looks.says = "2"
    threading.Timer(3 * newest_status.WAIT_S, looks.may_end.set).start()
    assert models(context) == [{"model": "2"}]


def test_a_look_that_fails_is_told(world):
    """What the first look raises the page raises."""
    context, looks = world
    looks.error = LedgerError("ledger", "is away", "wait")
    looks.may_end.set()
    with pytest.raises(LedgerError, match="is away"):
        models(context)
