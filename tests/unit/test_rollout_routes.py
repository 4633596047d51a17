"""The button that calls a rollout back: who may press it, from where, and what is done then."""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from harness.project import ROOT
from pipeline.context import Context
from pipeline.errors import LedgerError, SettingsError
from pipeline.ledger.rollout_events import (
    AbortAsked,
    RolledBack,
    RolloutEnded,
    RolloutFailed,
    RolloutStarted,
    Undeployed,
)

HERE = {"sec-fetch-site": "same-origin"}
ASKED = {"version": "2", "reason": "it harms"}


class Airflow:
    """Who is logged in, what that one may, and which runs were triggered; `trouble` is raised in place of one."""

    def __init__(self):
        self.may, self.runs, self.trouble = True, [], None

    def start(self, model, conf, user):
        if self.trouble:
            raise self.trouble
        self.runs.append((model, conf, user))
        return "manual__1"


@pytest.fixture
def airflow():
    return Airflow()


@pytest.fixture
def client(project, ledger, airflow, monkeypatch):
    """A rollout of version 2 of churn goes on."""
    monkeypatch.syspath_prepend(str(ROOT / "plugins"))
    spec = importlib.util.spec_from_file_location("rollout_routes", ROOT / "plugins" / "rollout_routes.py")
    routes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(routes)
    monkeypatch.setattr(routes, "base_url", lambda: "https://airflow.example/team")
    environment = SimpleNamespace(project=project, home=project, params_read=None, deployer="", server_mode=False)
    monkeypatch.setattr(Context, "here", lambda: Context(environment, ledger))
    ledger.append(RolloutStarted(version="2", strategy="canary", before="1"), "churn")
    app = FastAPI()
    user = SimpleNamespace(get_name=lambda: "anna")
    routes.add_to(app, lambda: user, lambda user, model: airflow.may, airflow.start)
    return TestClient(app, base_url="http://perennial")


def press(client, headers=HERE, asked=ASKED):
    return client.post("/rollout/churn/call-back", json=asked, headers=headers)


def test_it_is_noted_with_the_users_name_and_a_run_makes_sure(client, ledger, airflow):
    """The rollout reads the note at once; the run rolls back from this version alone. The page shows it at its next look."""
    assert client.get("/rollout/churn/state").json()["called_back"] is None
    answer = press(client)
    assert (answer.status_code, answer.json()) == (202, {"noted": True, "run": "manual__1"})
    (noted,) = ledger.events(AbortAsked, model="churn")
    assert noted.event == AbortAsked(reason="it harms", asked_by="anna", version="2")
    assert airflow.runs == [("churn", {"action": "rollback", "reason": "it harms", "version": "2"}, "anna")]
    assert client.get("/rollout/churn/state").json()["called_back"]["by"] == "anna"


def test_a_model_that_nobody_knows_has_no_rollout_to_call_back(client, ledger, airflow):
    """404, as its page would be, and nothing is noted or started."""
    answer = client.post("/rollout/nobody/call-back", json=ASKED, headers=HERE)
    assert (answer.status_code, "model nobody: is not known" in answer.json()["error"]) == (404, True)
    assert (ledger.events(AbortAsked), airflow.runs) == ([], [])


def test_who_may_not_trigger_the_dag_sees_the_page_and_cannot_act(client, ledger, airflow):
    """There is no button on the page, and a request by hand is refused."""
    assert "Call it back</button>" in client.get("/rollout/churn").text
    airflow.may = False
    page = client.get("/rollout/churn")
    assert (page.status_code, "Call it back</button>" in page.text) == (200, False)
    refused = press(client, {"authorization": "Bearer of-a-viewer"})
    assert (refused.status_code, "operate__churn" in refused.json()["error"]) == (403, True)
    assert (ledger.events(AbortAsked), airflow.runs) == ([], [])


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none", "origin": "http://perennial"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"authorization": "Basic YTpi", "origin": "http://evil.example"},
        HERE | {"content-type": "text/plain"},
        HERE | {"content-type": "application/x-www-form-urlencoded"},
    ],
)
def test_another_sites_page_cannot_press_it(client, ledger, airflow, headers):
    """Neither by a script nor by a form, though the browser sends the login's cookie with it."""
    assert press(client, headers).status_code == 403
    assert (ledger.events(AbortAsked), airflow.runs) == ([], [])


@pytest.mark.parametrize(
    "headers",
    [HERE, {"origin": "http://perennial"}, {"origin": "https://airflow.example"}, {"authorization": "Bearer token"}],
)
def test_the_page_itself_and_a_program_with_a_token_can(client, headers):
    """Over plain HTTP, and behind a proxy that names another host, a browser's `Origin` says so."""
    assert press(client, headers).status_code == 202


@pytest.mark.parametrize(
    "asked", [{"version": "2"}, {"version": "2", "reason": " "}, {"version": "2; x", "reason": "y"}, [], "x"]
)
def test_a_reason_and_a_version_are_asked_for(client, ledger, asked):
    """Without them nothing is done."""
    assert press(client, asked=asked).status_code == 400
    json = HERE | {"content-type": "application/json"}
    assert client.post("/rollout/churn/call-back", content=b"{" * 20_000, headers=json).status_code == 413
    assert ledger.events(AbortAsked) == []


@pytest.mark.parametrize(
    "trouble",
    [SettingsError("Dag operate__churn", "is paused", "unpause it"), OperationalError("x", None, Exception("locked"))],
)
def test_without_airflow_the_note_ends_the_rollout_all_the_same(client, ledger, airflow, trouble):
    """The answer says what is missing; where there was nothing to note either, nothing was done."""
    airflow.trouble = trouble
    answer = press(client)
    assert (answer.status_code, answer.json()["noted"], answer.json()["run"]) == (202, True, None)
    assert "paused" in answer.json()["trouble"] or "Airflow's database" in answer.json()["trouble"]
    ledger.append(RolloutFailed(version="2", error="was called back"), "churn")
    assert press(client).status_code == 503


def test_a_rollout_that_has_ended_meanwhile_is_left_to_the_run(client, ledger, airflow):
    """No later rollout is ended by a page that was not up to date; the run looks whether that version is live."""
    ledger.append(RolloutFailed(version="2", error="its slot died"), "churn")
    ledger.append(RolloutStarted(version="3", strategy="canary", before="1"), "churn")
    assert press(client).json() == {"noted": False, "run": "manual__1"}
    assert ledger.events(AbortAsked) == []


def test_unknown_models_have_no_page(client):
    """Neither a page nor a state; the page of all has what goes on."""
    assert [client.get(f"/rollout/nobody{end}").status_code for end in ("", "/state")] == [404, 404]
    assert 'href="rollout/churn"' in client.get("/rollout").text


def live_since(ledger, seconds, **of):
    """Version 2 went live so many seconds ago, and its rollout ended with that."""
    at = (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    ledger.append(RolloutEnded(version="2", slot="green", digest="d", **of), "churn", at=at)


def test_a_page_of_long_ago_takes_no_traffic_from_what_is_live(client, ledger, airflow):
    """The version went live an hour ago, or was live already, or came back by a rollback: the answer says so, and nothing is started."""
    live_since(ledger, 3600)
    refused = press(client)
    assert (refused.status_code, "is live since" in refused.json()["error"]) == (409, True)
    live_since(ledger, 0, already_live=True)
    assert press(client).status_code == 409
    ledger.append(RolledBack(version="2", slot="green", left="3", digest="d"), "churn")
    assert press(client).status_code == 409
    assert (airflow.runs, ledger.events(AbortAsked)) == ([], [])


def test_a_rollout_that_has_just_ended_is_called_back_all_the_same(client, ledger, airflow):
    """Between two looks of the page the version went live: the run takes its traffic away."""
    live_since(ledger, 5)
    assert press(client).json() == {"noted": False, "run": "manual__1"}
    ledger.append(Undeployed(version="2"), "churn")
    assert press(client).status_code == 202


@pytest.mark.parametrize("version", ["²", "٢", "9" * 5000, "-1", ""])
def test_a_version_is_a_number_of_few_digits(client, airflow, version):
    """What only looks like one is refused, and so is JSON that is too deep to be read."""
    assert press(client, asked={"version": version, "reason": "x"}).status_code == 400
    json = HERE | {"content-type": "application/json"}
    assert client.post("/rollout/churn/call-back", content=b"[" * 9_000, headers=json).status_code == 400
    assert airflow.runs == []


def test_what_a_person_wrote_that_is_no_text_is_shown_as_its_escape(client):
    """Half a surrogate pair in a reason takes no page away, and a figure that is no number is null."""
    json = HERE | {"content-type": "application/json"}
    body = b'{"version": "2", "reason": "a \\ud800"}'
    assert client.post("/rollout/churn/call-back", content=body, headers=json).status_code == 202
    state = client.get("/rollout/churn/state")
    assert "\\ud800" in state.text and state.json()["called_back"]["by"] == "anna"
    assert [client.get(f"/rollout{end}").status_code for end in ("", "/churn")] == [200, 200]


def test_a_ledger_that_cannot_be_read_is_said_in_one_line(client, monkeypatch):
    """Of each page, of its state and of the button: 503, because it may pass."""

    def broken():
        raise LedgerError("ledger sqlite:///x", "database is locked", "check the disk")

    monkeypatch.setattr(Context, "here", broken)
    answers = [client.get(f"/rollout{end}") for end in ("", "/churn", "/churn/state")] + [press(client)]
    assert {(answer.status_code, "database is locked" in answer.text) for answer in answers} == {(503, True)}
