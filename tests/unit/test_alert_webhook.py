"""An alert from elsewhere starts one run of its model's Dag, and whatever is wrong with it is one line."""

from __future__ import annotations

import importlib.util
import json
from datetime import UTC, datetime

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from harness.project import ROOT, change_params
from pipeline.errors import SettingsError
from pipeline.runs.alerts import MOST_BYTES

LOOK = datetime(2024, 5, 6, 6, tzinfo=UTC)
TOKEN = {"Authorization": "Bearer s3cret"}


class Webhook:
    """The route with an Airflow that remembers which runs it has; `trouble` is raised in place of a start."""

    def __init__(self, module):
        self.runs, self.trouble = {}, None
        app = FastAPI()
        module.add_to(app, self.start)
        self._client = TestClient(app)

    def start(self, request):
        if self.trouble:
            raise self.trouble
        if new := request.run not in self.runs:
            self.runs[request.run] = (request.dag, dict(request.conf))
        return new

    def post(self, body, headers=TOKEN):
        content = body if isinstance(body, bytes) else json.dumps(body)
        answer = self._client.post("/alerts", content=content, headers=headers)
        return answer.status_code, answer.json()


@pytest.fixture
def webhook(project, monkeypatch):
    spec = importlib.util.spec_from_file_location("alert_webhook", ROOT / "plugins" / "alert_webhook.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "newest_look", lambda cron, now: LOOK)
    monkeypatch.setenv("PERENNIAL_WEBHOOK_TOKEN", "s3cret")
    return Webhook(module)


def alertmanager(*alerts, **common):
    return {"version": "4", "status": "firing", "commonLabels": common, "alerts": list(alerts)}


def firing(name, **labels):
    return {"status": "firing", "labels": {"alertname": name, **labels}, "annotations": {"summary": f"{name} is high"}}


def test_without_the_variable_no_alert_is_taken(webhook, monkeypatch):
    """The answer names the variable; with it a token that is missing, wrong or no ASCII is refused."""
    for wrong in (
        {},
        {"Authorization": "Bearer s3cre"},
        {"Authorization": "s3cret"},
        {"Authorization": b"Bearer \xe9"},
    ):
        status, body = webhook.post({"model": "churn"}, wrong)
        assert (status, "$PERENNIAL_WEBHOOK_TOKEN" in body["error"]) == (401, True)
    monkeypatch.setenv("PERENNIAL_WEBHOOK_TOKEN", "")
    status, body = webhook.post({"model": "churn"}, {"Authorization": "Bearer "})
    assert (status, body["error"]) == (
        403,
        "alerts: are not taken; set PERENNIAL_WEBHOOK_TOKEN where Airflow's API server starts",
    )
    assert webhook.runs == {}


def test_the_setting_says_which_dag_an_alert_starts(webhook, project):
    """The monitor Dag looks and decides; the retrain Dag gets the reason. A stated time is the run's as-of."""
    status, body = webhook.post({"model": "churn", "as_of": "2024-03-01T00:00:00Z", "value": 3})
    assert (status, body["errors"], body["runs"][0]["started"]) == (202, [], True)
    change_params(project, "models.churn.monitor.on_alert", "retrain")
    webhook.post({"model": "churn", "name": "slow", "reason": "p99\nis 3 s"})
    assert list(webhook.runs.values()) == [
        ("monitor__churn", {"as_of": "2024-03-01T00:00:00+00:00"}),
        ("retrain__churn", {"reason": "alert slow: p99 is 3 s"}),
    ]


def test_an_alert_that_is_sent_again_starts_no_second_run(webhook):
    """Hosts and values differ each time; another kind of alert, and the same after the next look, are others."""
    one = webhook.post(alertmanager(firing("Errors", model="churn", pod="a")))
    again = webhook.post(alertmanager(firing("Errors", pod="b"), firing("Errors", pod="c"), model="churn"))
    assert (one[0], again[0]) == (202, 200)
    assert [run["started"] for run in again[1]["runs"]] == [False]
    assert again[1]["runs"][0]["run"] == one[1]["runs"][0]["run"]
    assert one[1]["runs"][0]["run"].endswith("__2024-05-06T06:00:00")
    assert webhook.post(alertmanager(firing("Latency", model="churn")))[0] == 202
    assert len(webhook.runs) == 2


def test_alerts_of_other_senders_are_read(webhook):
    """A list as Prometheus sends it, one alert with labels, and the scheme of the token in other letters."""
    lower = {"Authorization": "bearer s3cret"}
    labels = {"alertname": "A", "model": "churn"}
    to_come, unknown = ([{"labels": labels, "endsAt": end}] for end in ("2999-05-06T00:00:00Z", "0001-01-01T00:00:00Z"))
    for sent in ([firing("A", model="churn")], firing("A", model="churn"), to_come, unknown):
        status, body = webhook.post(sent, lower)
        assert (status in {200, 202}, [run["model"] for run in body["runs"]]) == (True, ["churn"])
    assert len(webhook.runs) == 1
    assert len(webhook.post({"model": "c" * 100_000})[1]["error"]) < 300


def test_what_is_resolved_starts_nothing(webhook):
    """Alertmanager sends the end of an alert too, and so do others, by other words."""
    resolved = {**firing("Errors", model="churn"), "status": "resolved"}
    for over in (
        alertmanager(resolved),
        {"model": "churn", "state": "ok"},
        {"model": "churn", "status": "RESOLVED"},
        {"status": "resolved", "alerts": [{"labels": {"alertname": "Errors", "model": "churn"}}]},
        [{"labels": {"alertname": "Errors", "model": "churn"}, "endsAt": "2024-05-06T00:00:00Z"}],
        [],
    ):
        assert webhook.post(over) == (200, {"runs": [], "errors": []})
    assert webhook.runs == {}


def test_one_wrong_alert_keeps_no_other_from_its_run(webhook):
    """Each has its line beside the runs."""
    sent = alertmanager(firing("A", model="nobody"), firing("B"), firing("C", model="churn"))
    status, body = webhook.post(sent)
    assert (status, [run["model"] for run in body["runs"]]) == (202, ["churn"])
    assert [line.partition(":")[0] for line in body["errors"]] == ["alert", "model nobody"]


@pytest.mark.parametrize(
    ("body", "status", "line"),
    [
        (b"", 400, "alert: is not JSON; "),
        (b"[" * 100_000, 400, "alert: is not JSON; "),
        (b"\xff\xfe{}", 400, "alert: is not JSON; "),
        (3, 400, "alert: is a JSON int, not an object; "),
        ([3], 422, "alert: names no model; "),
        (
            {"model": "churn", "as_of": "2999-01-01"},
            422,
            "alert of churn: has the as_of 2999-01-01, which is to come; ",
        ),
        ({}, 422, "alert: names no model; "),
        ({"model": 3}, 422, "alert: has a model that is no text; "),
        ({"model": "nobody"}, 422, "model nobody: is not in params.yaml; use one of its models: churn"),
        ({"model": "churn", "as_of": "soon"}, 422, "as_of 'soon': is not a time; "),
        (
            {"model": "churn", "as_of": "0001-01-01T00:00:00+14:00"},
            422,
            "as_of '0001-01-01T00:00:00+14:00': is not a time; ",
        ),
        ({"model": "\ud800"}, 422, "model ?: is not in params.yaml; "),
        (b" " * (MOST_BYTES + 1), 413, "alert: is larger than 256 KiB; "),
    ],
)
def test_what_is_wrong_is_one_line(webhook, body, status, line):
    """With its next step, and nothing is started."""
    code, said = webhook.post(body)
    assert code == status and said["error"].startswith(line) and "\n" not in said["error"]
    assert webhook.runs == {}


def test_a_database_that_is_away_is_no_bare_error(webhook):
    """The sender is told to send again, which Alertmanager does by itself; a Dag that cannot run is said."""
    webhook.trouble = OperationalError("INSERT INTO dag_run", {}, Exception("database is locked\nat 0x7f"))
    status, body = webhook.post({"model": "churn"})
    assert (status, body) == (
        503,
        {"error": "Airflow's database: did not do it (database is locked); send the alert again"},
    )
    webhook.trouble = SettingsError("Dag monitor__churn", "is paused, so an alert starts nothing", "unpause it")
    status, body = webhook.post({"model": "churn"})
    assert (status, body["error"]) == (422, "Dag monitor__churn: is paused, so an alert starts nothing; unpause it")
