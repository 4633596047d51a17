"""The stop button on its page: who may press it, from where, and what is so then."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from harness.project import ROOT, change_params
from pipeline.context import Context
from pipeline.ledger.freeze_events import Frozen, Unfrozen

HERE = {"sec-fetch-site": "same-origin"}
ASKED = {"action": "freeze", "reason": "a sale", "until": "2099-12-01T00:00:00Z"}


@pytest.fixture
def allowed():
    return {"churn"}


@pytest.fixture
def client(project, ledger, allowed, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "plugins"))
    import freeze_routes

    # Other tests have these modules of their own.
    for name in ("freeze_routes", "rollout_routes"):
        monkeypatch.delitem(sys.modules, name)
    environment = SimpleNamespace(project=project, home=project, params_read=None, deployer="", server_mode=False)
    monkeypatch.setattr(Context, "here", lambda by="": Context(environment, ledger, asked_by=by))
    app = FastAPI()
    user = SimpleNamespace(get_name=lambda: "anna")
    freeze_routes.add_to(app, lambda: user, lambda user, model: model in allowed)
    return TestClient(app, base_url="http://perennial")


def press(client, asked=ASKED, headers=HERE, model="churn"):
    return client.post(f"/freeze/{model}", json=asked, headers=headers)


def test_it_freezes_and_unfreezes_with_the_users_name_and_reason(client, ledger):
    """The page says what is so, and has the button that changes it."""
    assert "Stop: freeze it</button>" in client.get("/freeze/churn").text
    answer = press(client)
    assert (answer.status_code, answer.json()) == (200, {"frozen": "frozen until 2099-12-01 00:00 by anna: a sale"})
    assert [e.event.by for e in ledger.events(Frozen, model="churn")] == ["anna"]
    page = client.get("/freeze/churn").text
    assert "Frozen until 2099-12-01 00:00 by anna: a sale." in page and "Unfreeze it</button>" in page
    assert press(client, {"action": "unfreeze", "reason": "over"}).json() == {"frozen": ""}
    assert len(ledger.events(Unfrozen, model="churn")) == 1
    assert press(client, {"action": "unfreeze", "reason": "over"}).status_code == 409


def test_a_calendar_is_shown_and_no_button_ends_it(client, project):
    """It stands in the block."""
    span = {"start": "2020-01-01T00:00:00Z", "end": "2099-01-05T00:00:00Z", "reason": "holidays"}
    change_params(project, "models.churn.policy", {"frozen": [span]})
    assert "By the calendar (<code>policy.frozen</code>) frozen from" in client.get("/freeze/churn").text
    refused = press(client, {"action": "unfreeze", "reason": "over"})
    assert (refused.status_code, "models.churn.policy.frozen" in refused.json()["error"]) == (409, True)


def test_who_may_not_operate_the_model_sees_the_page_and_cannot_act(client, ledger, allowed):
    """There is no button on the page, and a request by hand is refused."""
    allowed.clear()
    page = client.get("/freeze/churn")
    assert (page.status_code, "</button>" in page.text) == (200, False)
    refused = press(client, headers={"authorization": "Bearer of-a-viewer"})
    assert (refused.status_code, "operate__churn" in refused.json()["error"]) == (403, True)
    assert ledger.events(Frozen) == []


@pytest.mark.parametrize(
    "headers", [{}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}, HERE | {"content-type": "text/plain"}]
)
def test_another_sites_page_cannot_press_it(client, ledger, headers):
    """Neither by a script nor by a form, though the browser sends the login's cookie with it."""
    assert press(client, headers=headers).status_code == 403
    assert ledger.events(Frozen) == []


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"action": "freeze"}, 400),
        ({"action": "freeze", "reason": " "}, 400),
        ({"action": "melt", "reason": "x"}, 400),
        ({"action": "freeze", "reason": "x", "until": "soon"}, 400),
        ([], 400),
        ({"action": "freeze", "reason": "x", "until": "2020-01-01T00:00:00Z"}, 409),
        ({"action": "freeze", "reason": "x" * 20_000}, 413),
    ],
)
def test_what_is_no_request_freezes_nothing(client, ledger, asked, status):
    """It is said in one line."""
    assert press(client, asked).status_code == status
    assert ledger.events(Frozen) == []


def test_a_model_that_nobody_knows_has_no_button(client, ledger, allowed):
    """404, for the page and for the request."""
    allowed.add("nobody")
    assert client.get("/freeze/nobody").status_code == 404
    assert press(client, model="nobody").status_code == 404
    assert ledger.events(Frozen) == []


def test_a_block_that_cannot_be_read_has_the_button(client, project, ledger):
    """Nothing happened to the model yet and its block is wrong: it can be frozen before somebody mends it."""
    change_params(project, "models.churn.training.task", "binry")
    assert "Stop: freeze it</button>" in client.get("/freeze/churn").text
    assert press(client).status_code == 200
