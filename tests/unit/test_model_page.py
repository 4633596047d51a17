"""The page of a model: versions, drift, quality, what happened and costs on one time axis, from a bounded number of events."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
import yaml

from harness.project import CHURN, ROOT
from pipeline.context import Context
from pipeline.errors import SettingsError
from pipeline.ledger.events import DriftChecked, GatesChecked, RunOpened, RunSettled, StepEnded, VersionRegistered
from pipeline.ledger.newest_events import newest_of
from pipeline.ledger.rollout_events import RolledBack, RolloutEnded, RolloutFailed, Undeployed
from pipeline.ledger.store import Ledger
from pipeline.pages import model, model_history

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
ODD = "</script><script>alert(1)</script><b>"
GATES = [
    {"gate": "metric_limit", "passed": True, "observed": 0.81, "limit": 0.6, "reason": "x"},
    {"gate": "champion", "passed": False, "observed": 0.1, "limit": 0.2, "reason": "worse"},
]


def look(of: str, far: float, **more) -> DriftChecked:
    features = [{"feature": "spend", "times_limit": far}, {"feature": "plan", "times_limit": far / 2}]
    as_of = {"champion": of, "as_of": "2026-01-15T00:00:00+00:00"}
    return DriftChecked(verdict="drift" if far > 1 else "no drift", reason="r", features=features, **as_of, **more)


@pytest.fixture
def context(tmp_path) -> Context:
    """`churn` had version 1, then 2, and 1 again by a rollback; a rollout failed, and `odd` is a model of the ledger alone."""
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings["models"] = {"churn": CHURN | {"description": ODD}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")

    def note(event, at: str, run: str = "", step: str = "") -> None:
        ledger.append(event, "churn", run, step, at=f"2026-{at}.000Z")

    for version, day in (("1", "01-10"), ("2", "02-10")):
        run = f"retrain__churn/{ODD}{version}"
        note(RunOpened(as_of=f"2026-{day}", reason=f"drift of {ODD}"), f"{day}T01:00:00", run)
        note(StepEnded(state="success", wall_s=1, cpu_s=36_000, peak_mb=0), f"{day}T01:30:00", run, "train")
        note(GatesChecked(verdicts=GATES), f"{day}T02:00:00", run)
        made = VersionRegistered(version=version, mlflow_run="r", data_version="d", as_of=f"2026-{day}T00:00:00+00:00")
        note(made, f"{day}T02:10:00", run)
        note(RolloutEnded(version=version, slot="blue", digest=f"d{version}"), f"{day}T03:00:00", run)
        note(RunSettled(outcome="it went live", cost=0.5, currency="USD"), f"{day}T04:00:00", run)
    quality = {"metric": "roc_auc", "value": 0.8, "low": 0.7, "high": 0.9, "held_out": 0.81, "labelled": 90}
    note(look("1", 0.5), "01-20T00:00:00")
    note(look("2", 2.5, live_quality=quality, moved=["spend"], report="/r/churn/2026.html"), "02-20T00:00:00")
    note(RolledBack(version="1", slot="green", digest="d1", left="2", reason="worse"), "02-21T00:00:00")
    note(RolloutFailed(version="3", error=ODD), "02-25T00:00:00")
    ledger.append(RolloutEnded(version="7", slot="blue"), "odd", at="2026-01-01T00:00:00.000Z")
    return Context(SimpleNamespace(project=tmp_path, home=tmp_path, params_read=None), ledger, lambda: NOW)


def chart(page: str) -> dict:
    (found,) = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S)
    return json.loads(found)


def test_the_chart_has_five_parts_on_one_time_axis(context):
    """Live versions, drift with its limit, quality with its interval, what happened, and costs share one x axis."""
    figure = chart(model.model_page(context, "churn"))
    assert {each.get("xaxis", "x") for each in figure["data"]} == {"x"}
    assert {each.get("yaxis", "y") for each in figure["data"]} == {"y", "y2", "y3", "y4", "y5"}
    bars = figure["data"][0]
    assert bars["y"] == [1, 2, 1] and bars["marker"]["color"][1] != bars["marker"]["color"][0]
    assert bars["x"][0] == 31 * 86_400_000 and bars["base"][2].startswith("2026-02-21")
    assert [shape["y0"] for shape in figure["layout"]["shapes"] if shape["yref"] == "y2"] == [1.0]
    tops = [figure["layout"][axis]["range"][1] for axis in ("yaxis", "yaxis2")]
    assert tops[0] >= 2.8 and tops[1] > 2.5, "no title lies on a bar, a point or the limit's line"
    drift = [each for each in figure["data"] if each.get("yaxis") == "y2" and each["mode"] == "markers"]
    assert [each["y"] for each in drift] == [[0.5], [2.5]]
    quality = next(each for each in figure["data"] if "error_y" in each)
    assert quality["y"] == [0.8] and quality["error_y"]["array"] == [pytest.approx(0.1)]
    marks = {each["y"][0]: len(each["y"]) for each in figure["data"] if each.get("yaxis") == "y4" and each["y"]}
    assert marks == {"retrain": 2, "rollback": 1, "incident": 3}
    costs = figure["data"][-1]
    price = context.params.prices.cpu_core_hour
    assert costs["x"][:2] == ["2026-01-01T00:00:00+00:00", "2026-02-01T00:00:00+00:00"] and costs["y"][0] >= 10 * price


def test_the_tables_have_what_is_known_of_each_version(context):
    """A version has its state, its times, its gates, its run and what that cost; the CSV has the same under a header."""
    first, second = model.table(context, "churn").rows
    assert (first["state"], first["times_live"], first["live_until"]) == ("live", 2, None)
    assert (second["state"], second["live_until"][:10]) == ("rolled back", "2026-02-21")
    assert (second["held_out"], second["gates"], second["run_cost"]) == (0.81, "1 of 2; not champion", 0.5)
    looks = model.table(context, "churn", "looks").rows
    assert [(each["verdict"], each["times_limit"], each["feature"]) for each in looks] == [
        ("no drift", 0.5, "spend"),
        ("drift", 2.5, "spend"),
    ]
    assert model.table(context, "churn").csv().splitlines()[0].startswith("version,state,")
    with pytest.raises(SettingsError, match="must be one of versions, looks"):
        model.table(context, "churn", "secrets")


def test_what_users_wrote_is_text_in_page_and_chart(context):
    """A description, a reason, a run's id and an error with `</script>` in them end no script and start none."""
    page = model.model_page(context, "churn")
    assert "alert(1)</script>" not in page and "<b>" not in page
    assert any(ODD.replace("<", "&lt;").replace(">", "&gt;") in text for each in chart(page)["data"] for text in each.get("hovertext", ()))  # fmt: skip


def test_a_model_of_the_ledger_alone_has_a_page_and_an_unknown_one_has_none(context):
    """A model that params.yaml no longer has shows what was live, also without a registration; an unknown name is refused."""
    (line,) = model.table(context, "odd").rows
    assert (line["version"], line["state"], line["registered_at"]) == ("7", "live", None)
    assert "Version 7 is live" in model.model_page(context, "odd")
    with pytest.raises(SettingsError, match="is not known"):
        model.model_page(context, "nobody")


def test_a_number_that_is_registered_anew_is_another_version(context):
    """Of a number that names another package now, each registration has its own line and its own time with traffic."""
    made = VersionRegistered(version="2", mlflow_run="r", data_version="e", as_of="2026-03-01T00:00:00+00:00")
    context.ledger.append(made, "churn", at="2026-03-01T00:00:00.000Z")
    context.ledger.append(RolloutEnded(version="2", digest="new"), "churn", at="2026-03-02T00:00:00.000Z")
    rows = [row for row in model.table(context, "churn").rows if row["version"] == "2"]
    assert [(row["data_version"], row["state"]) for row in rows] == [("d", "rolled back"), ("e", "live")]


def test_only_the_newest_events_are_read_and_what_is_left_out_is_said(context, monkeypatch):
    """More looks than the page takes are left out, the oldest first, with their number and a date; their bodies are bounded too."""
    monkeypatch.setitem(model_history.COUNTS, DriftChecked, 3)
    for day in range(1, 6):
        context.ledger.append(look("1", 0.1 * day), "churn", at=f"2026-03-0{day}T00:00:00.000Z")
    past = model_history.history(context, "churn")
    assert [each["at"][:10] for each in past.looks] == ["2026-03-03", "2026-03-04", "2026-03-05"]
    assert past.left_out == ["4 looks before 2026-03-03"]
    assert "4 looks before 2026-03-03 are left out" in model.model_page(context, "churn")
    monkeypatch.setattr("pipeline.ledger.newest_events.AT_ONCE", 2)
    monkeypatch.setattr("pipeline.ledger.newest_events.MOST_CHARACTERS", 1)
    found = newest_of(context.ledger, DriftChecked, "churn", 400)
    assert (len(found.entries), found.older, found.begins[:10]) == (2, 5, "2026-03-04")


def test_where_rollouts_are_left_out_so_are_the_rollbacks_before_them(context, monkeypatch):
    """A rollback whose rollout was not read makes no span: live versions begin where all moves were read."""
    monkeypatch.setitem(model_history.COUNTS, RolloutEnded, 1)
    for day in ("01", "02"):
        context.ledger.append(RolledBack(version="1", left="2"), "churn", at=f"2026-03-{day}T00:00:00.000Z")
        context.ledger.append(RolloutEnded(version="2"), "churn", at=f"2026-03-{day}T12:00:00.000Z")
    (span,) = model_history.history(context, "churn").live
    assert (span.version, span.start[:13]) == ("2", "2026-03-02T12")


def test_undeployed_is_nothing_live_and_a_rollout_of_what_is_live_ends_nothing(context):
    """After an undeploy nothing is live; a rollout that found its version live already begins no other span."""
    context.ledger.append(RolloutEnded(version="1", already_live=True), "churn", at="2026-03-01T00:00:00.000Z")
    assert [span.version for span in model_history.history(context, "churn").live] == ["1", "2", "1"]
    context.ledger.append(Undeployed(version="1"), "churn", at="2026-03-02T00:00:00.000Z")
    past = model_history.history(context, "churn")
    assert past.live[-1].end == "2026-03-02T00:00:00.000Z"
    assert "nothing is live" in model.facts(context, "churn")["sentence"]


def test_a_look_of_before_has_its_distance_by_its_limit():
    """A feature of an older look has distances and limits alone: their ratio is what a newer one says itself."""
    assert model_history.times_limit({"feature": "f", "psi": 0.3, "psi_limit": 0.2}) == pytest.approx(1.5)
    shares = {"missing_before": 0.0, "missing_now": 0.2, "missing_limit": 0.1, "psi": None, "psi_limit": 0.2}
    assert model_history.times_limit(shares) == pytest.approx(2)
    assert model_history.times_limit({"feature": "f", "psi": None}) is None


def test_a_model_to_which_nothing_happened_has_the_next_step_in_place_of_a_chart(context, tmp_path):
    """Axes without anything on them say nothing."""
    empty = Context(context.environment, Ledger(f"sqlite:///{tmp_path / 'empty.db'}"), lambda: NOW)
    page = model.model_page(empty, "churn")
    assert "perennial retrain churn --deploy" in page and 'id="history"' not in page
    assert 'id="history"' in model.model_page(context, "churn")
