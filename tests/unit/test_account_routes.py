"""The routes of the pages of models, of ROI and of events: behind the login, with their files, and Plotly's script from here alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient

from harness.project import ROOT
from pipeline.context import Context
from pipeline.errors import LedgerError
from pipeline.ledger.rollout_events import RolloutEnded
from pipeline.pages import charts

PATHS = (
    "plotly.js",
    "model/churn",
    "model/churn.csv",
    "model/churn/looks.json",
    "roi",
    "roi.csv",
    "roi/churn",
    "events?of=1",
)

SHOWN = ("", "portfolio", "card/churn/1", "audit/churn", "receipts/churn")
GONE = (
    "gates/x/y",
    "data/2",
    "backtest/churn?number=x",
    f"backtest/churn?number={'9' * 5000}",
    "audit/churn?kind=x",
)


@pytest.fixture
def client(project, ledger, monkeypatch):
    """The routes over a ledger in which `churn` went live; who sends no name has not logged in."""
    monkeypatch.syspath_prepend(str(ROOT / "plugins"))
    import account_routes
    import page_routes

    environment = SimpleNamespace(project=project, home=project, params_read=None)
    monkeypatch.setattr(Context, "here", lambda: Context(environment, ledger))
    ledger.append(RolloutEnded(version="1", slot="blue", digest="d"), "churn")

    def login(name: str = "") -> None:
        if not name:
            raise HTTPException(401)

    app = FastAPI()
    account_routes.add_to(app, login)
    page_routes.add_to(app, login)
    return TestClient(app)


def test_nothing_is_told_without_a_login(client):
    """Pages, files and the script answer 401 to who has not logged in."""
    assert {client.get(f"/{path}").status_code for path in (*PATHS, *SHOWN, *GONE)} == {401}


def test_pages_and_their_files_are_told_apart_by_the_ending(client):
    """A page is HTML, its table is CSV or JSON at the same address with the ending, and the script may be kept for as long as its version."""
    kinds = {path: client.get(f"/{path}", params={"name": "ann"}) for path in PATHS if "?" not in path}
    assert {answer.status_code for answer in kinds.values()} == {200}
    ended = {"csv": "text/csv", "json": "application/json", "js": "text/javascript"}
    for path, answer in kinds.items():
        assert answer.headers["content-type"].startswith(ended.get(path.partition(".")[2], "text/html")), path
    assert kinds["plotly.js"].headers["cache-control"] == charts.CACHE
    assert kinds["plotly.js"].content == charts.script().read_bytes()


def test_what_cannot_be_shown_is_said_on_a_page(client, monkeypatch):
    """An unknown model, part or kind is a 404 with its reason, escaped; a ledger that cannot be read is a 503 with its own."""
    for path in ("model/<b>", "model/churn/secrets.csv", "roi/nobody", "events?kind=<b>", *GONE):
        answer = client.get(f"/{path}{'&' if '?' in path else '?'}name=ann")
        assert answer.status_code == 404 and "<b>" not in answer.text, path
        is_file = "text/plain" in answer.headers["content-type"]
        assert "\n" not in answer.text if is_file else answer.text.count('<p class="bad">') == 1, path

    def torn(*_):
        raise LedgerError("ledger x", "is torn", "`restore` it")

    assert client.get("/events", params={"of": f"1,{10**30}", "name": "ann"}).status_code == 200
    monkeypatch.setattr("pipeline.pages.overview.report_file", torn)
    assert client.get("/reports/churn/x.html", params={"name": "ann"}).status_code == 503
    monkeypatch.setattr("pipeline.pages.roi.roi_page", torn)
    answer = client.get("/roi", params={"name": "ann"})
    assert answer.status_code == 503 and "<title>Perennial: not shown</title>" in answer.text
    assert '<p class="bad">ledger x: is torn; <code>restore</code> it</p>' in answer.text
