"""A page's table as a file, and the routes that give it."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from harness.project import ROOT
from pipeline.context import Context
from pipeline.errors import LedgerError
from pipeline.ledger.approval_events import Approved
from pipeline.ledger.events import GatesChecked, StepEnded
from pipeline.ledger.receipt_events import DecisionSettled
from pipeline.ledger.rollout_events import RolloutEnded, RolloutStarted
from pipeline.pages.downloads import Table, cell
from tests.support.decision_bodies import SETTLED

ATTACK = '=HYPERLINK("http://evil","see")'
RUN = "retrain__churn/manual__1"


@pytest.mark.parametrize("text", [ATTACK, "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "＝1", "-inf", "-"])
def test_text_that_a_spreadsheet_would_reckon_with_is_text_there(text):
    """It has an apostrophe before it, which a spreadsheet does not show; JSON has it as it is."""
    assert cell(text) == f"'{text}"
    assert json.loads(Table(("who",), [{"who": text}]).json()) == [{"who": text}]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (-1.5, "-1.5"),
        (-3, "-3"),
        ("-3", "-3"),
        ("+1e-9", "+1e-9"),
        ("2024-01-01", "2024-01-01"),
        (None, ""),
        (float("nan"), ""),
    ],
)
def test_numbers_and_what_nobody_knows_stay(value, shown):
    """A negative number is no formula, also as text; what is not known, or no number, is an empty cell."""
    assert cell(value) == shown


def test_a_figure_that_is_no_number_is_null_in_json():
    """JSON has no word for it; objects within are read too."""
    rows = [{"a": float("inf"), "b": {"c": float("nan"), "d": [1.5]}}]
    assert json.loads(Table(("a", "b"), rows).json()) == [{"a": None, "b": {"c": None, "d": [1.5]}}]


@pytest.fixture
def client(project, ledger, monkeypatch):
    """The routes over a ledger in which people wrote what they like."""
    spec = importlib.util.spec_from_file_location("download_routes", ROOT / "plugins" / "download_routes.py")
    routes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(routes)
    environment = SimpleNamespace(project=project, home=project, params_read=None)
    monkeypatch.setattr(Context, "here", lambda: Context(environment, ledger))
    ledger.append(RolloutStarted(version="2", reason="by hand", asked_by=ATTACK, digest="d"), "churn")
    ledger.append(Approved(version="2", by=ATTACK, through="airflow", reason="+1", digest="d"), "churn")
    ledger.append(DecisionSettled.read(SETTLED | {"saved": -3.5}), "churn")
    verdict = {"gate": "=1", "passed": False, "observed": float("nan"), "limit": 0.5, "reason": "@x"}
    ledger.append(GatesChecked(verdicts=[verdict]), "churn", RUN)
    app = FastAPI()
    routes.add_to(app, lambda: None)
    return TestClient(app)


def read(client, path):
    answer = client.get(f"/{path}.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answer.text))), client.get(f"/{path}.json").json()


def test_audit_receipts_and_gates_are_files_too(client):
    """CSV has a column for each figure, and JSON the same rows; the audit is filtered by kind, as its page."""
    rows, same = read(client, "audit/churn")
    assert [row["who"] for row in rows] == [f"'{ATTACK}"] * 2
    assert [row["who"] for row in same] == [ATTACK] * 2 and same[0]["event"] == 1
    assert len(client.get("/audit/churn.json?kind=approval").json()) == 1
    rows, same = read(client, "receipts/churn")
    assert (rows[0]["saved"], same[0]["saved"]) == ("-3.5", -3.5)
    rows, same = read(client, f"gates/{RUN}")
    assert (rows[0]["gate"], rows[0]["reason"], same[0]["observed"]) == ("'=1", "'@x", None)


def test_the_overviews_tables_are_files(client, ledger):
    """Deployments with the version before, and runs with what they cost."""
    ended = RolloutEnded(version="2", slot="green", engine="process", previous="1", switch_s=0.2, digest="d")
    ledger.append(ended, "churn", RUN)
    ledger.append(StepEnded(state="success", wall_s=2.0, cpu_s=1.0, peak_mb=10.0), "churn", RUN, "train")
    rows, _ = read(client, "deployments")
    assert [(row["run"], row["version"], row["before"], row["switch_s"]) for row in rows] == [(RUN, "2", "1", "0.2")]
    _, (run,) = read(client, "runs")
    assert (run["run"], run["cpu_s"], run["cost"] > 0) == (RUN, 1.0, True)


@pytest.mark.parametrize("path", ["audit/nobody", "audit/churn.json?kind=x", "gates/none", "data/none"])
def test_of_what_is_not_there_there_is_no_file(client, path):
    """The answer says in one line what is not known."""
    answer = client.get(f"/{path}" if "?" in path else f"/{path}.csv")
    assert (answer.status_code, answer.text.count("\n")) == (404, 0)


def test_what_utf_8_cannot_write_is_its_escape_in_files_too(client, ledger):
    """Half a surrogate pair, which an old event may have, takes no file away."""
    ledger.append(Approved(version="3", by="a\ud800", through="airflow", reason="x", digest="d"), "churn")
    rows, same = read(client, "audit/churn")
    assert (rows[-1]["who"], same[-1]["who"]) == ("a\\ud800", "a\ud800")


def test_a_file_of_a_ledger_that_cannot_be_read_may_come_later(client, monkeypatch):
    """503, as its page has, and not that there is no such thing."""

    def broken():
        raise LedgerError("ledger sqlite:///x", "database is locked", "check the disk")

    monkeypatch.setattr(Context, "here", broken)
    assert (client.get("/runs.csv").status_code, client.get("/audit/churn.json").status_code) == (503, 503)


@pytest.mark.parametrize("count", [0, 1, 100, 101, 250])
def test_a_long_file_is_sent_in_parts_that_make_it_whole(count):
    """A hundred rows a part, each row once, and what is read as it is asked for is not read before."""
    read_so_far = []
    rows = [{"a": i} for i in range(count)]
    table = Table(("a",), (read_so_far.append(row) or row for row in rows))
    parts = table.json_parts()
    assert next(parts).startswith("[")
    assert len(read_so_far) == min(count, 100)
    assert json.loads("".join(Table(("a",), iter(rows)).json_parts())) == rows
    assert [row["a"] for row in csv.DictReader(io.StringIO(Table(("a",), iter(rows)).csv()))] == [
        str(i) for i in range(count)
    ]
