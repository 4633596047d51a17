"""200 models, three of them broken in different ways: these three say why, and all others go on."""

from __future__ import annotations

import json

import pytest

from harness.commands import said
from harness.project import CHURN, make_project
from pipeline.context import Context
from pipeline.pages.overview import overview_page
from pipeline.runs.dag_settings import dag_settings
from tests.component.test_dags import read_dags, reader

__all__ = ["read_dags", "reader"]

NAMES = [f"model-{number:03d}" for number in range(200)]
TYPO, SQL, HOOK, RIGHT = "model-007", "model-042", "model-100", "model-199"
SOURCE = {key: value for key, value in CHURN["source"].items() if key != "query"}
NO_TABLE = "SELECT * FROM nowhere WHERE seen_at >= $start AND seen_at < $end"
BROKEN = {
    TYPO: CHURN | {"schedul": CHURN["schedule"]},
    SQL: CHURN | {"source": SOURCE | {"query": NO_TABLE}},
    HOOK: CHURN | {"source": SOURCE | {"hook": "broken_hook:rows"}},
}
LINES = {
    TYPO: "params.yaml: unknown key models.model-007.schedul",
    SQL: "model-042 source: Catalog Error: Table with name nowhere does not exist!",
    HOOK: "models.model-100.source.hook broken_hook:rows: ",
}


@pytest.fixture(scope="module")
def portfolio(tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("portfolio") / "project", dict.fromkeys(NAMES, CHURN) | BROKEN)
    (project / "broken_hook.py").write_text("def rows(start, end:\n")
    return project


@pytest.fixture(autouse=True)
def here(portfolio, monkeypatch):
    monkeypatch.setenv("PERENNIAL_HOME", str(portfolio / "home"))
    monkeypatch.setenv("PERENNIAL_PROJECT", str(portfolio))
    monkeypatch.chdir(portfolio)


def test_all_dags_parse_and_a_broken_block_says_so_on_its_own(portfolio, read_dags):
    """Each model has its Dags, of which only those of the block with a fault say that they fail."""
    told = read_dags(portfolio)
    assert told["errors"] == {}
    for kind in ("retrain", "monitor", "operate"):
        assert {f"{kind}__{name}" for name in NAMES} <= set(told["dags"])
    assert {name for name, dag in told["dags"].items() if LINES[TYPO] in (dag["page"] or "")} == {
        f"retrain__{TYPO}",
        f"monitor__{TYPO}",
    }
    assert {name for name, each in dag_settings(Context.here()).items() if each.fault} == {TYPO}


def test_status_and_page_show_all_and_one_fault(portfolio):
    """`status` and the page show each model, and the fault that a look at params.yaml finds at its model alone."""
    seen = {each["model"]: each for each in json.loads(said(["status", "--json"]).stdout)}
    assert set(NAMES) <= set(seen)
    assert {name for name, each in seen.items() if each["fault"]} == {TYPO}
    page = overview_page(Context.here())
    assert page.count(LINES[TYPO]) == 1 and f"model-{RIGHT}" in page


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_fails_in_one_line_that_names_it(name):
    """Its first stage, or the command before it, says in one line which model and which key."""
    done = said(["stage", "snapshot", name])
    (line,) = done.stderr.strip().splitlines()
    assert (done.returncode, line.startswith(LINES[name])) == (1, True), line


def test_the_others_train_and_one_more_is_added(portfolio):
    """A stage, a drift check and `reconcile` read their own model alone; `init` adds the next one and changes nothing."""
    done = said(["drift", RIGHT])
    assert done.stderr.startswith(f"model {RIGHT}: has no champion to monitor"), done
    assert said(["reconcile", RIGHT]).returncode == 0
    assert said(["stage", "snapshot", RIGHT]).returncode == 0
    before = (portfolio / "params.yaml").read_text()
    data = "SELECT * EXCLUDE (decided_at) FROM 'customers/all.parquet'"
    done = said(["init", "one-more", "--data", data, "--target", "left", "--time", "seen_at"])
    assert done.returncode == 0, done
    assert (portfolio / "params.yaml").read_text().startswith(before.rstrip("\n"))
    assert set(Context.here().params.models) == {*NAMES, "one-more"} - {TYPO}
