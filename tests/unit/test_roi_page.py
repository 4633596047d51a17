"""The page of what automation earned: every number says how it is known and leads to its events, and the curve breaks even where ROI says."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest
import yaml

from harness.project import CHURN, ROOT
from pipeline.context import Context
from pipeline.errors import SettingsError
from pipeline.ledger.events import KINDS, StepEnded
from pipeline.ledger.rollout_events import RolloutEnded
from pipeline.ledger.store import Ledger
from pipeline.pages import events, roi

KNOWN = {"measured", "yours", "claimed", "guess"}


@pytest.fixture
def context(tmp_path) -> Context:
    """Two models that went live, of which `a` stands in params.yaml; what compute saves is stated, all else is claimed."""
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings["models"] = {"a": CHURN}
    settings["prices"] |= {"currency": "<b>EUR"}
    settings["baseline"] |= {"saved_compute": [1000, 2000]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    for model, run in (("a", "retrain__a/scheduled__1"), ("b", "cli/b/1")):
        at = {"at": "2026-01-01T00:00:00.000Z"}
        ledger.append(StepEnded(state="success", wall_s=1, cpu_s=3600, peak_mb=0), model, run, "train", **at)
        ledger.append(RolloutEnded(version="1", digest=run), model, run, **at)
    return Context(SimpleNamespace(project=tmp_path, home=tmp_path, params_read=None), ledger)


def charts(page: str) -> list[dict]:
    return [json.loads(found) for found in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S)]  # fmt: skip


def test_each_number_says_how_it_is_known_and_leads_to_its_events(context):
    """No number is without a word on how it is known, and each has events, a kind of events, or the source's claim."""
    rows = {(row["group"], row["name"]): row for row in roi.table(context).rows}
    assert {row["known"] for row in rows.values()} <= KNOWN
    assert (rows["saved so far", "compute"]["known"], rows["saved so far", "time to market"]["known"]) == ("yours", "claimed")  # fmt: skip
    assert rows["so far", "deployments"]["events"] == [2, 4] == rows["saved so far", "engineer time"]["events"]
    assert rows["maturity", "level"]["mid"] == 1 and rows["maturity", "level"]["events"] == [4]
    unproven = [row for row in rows.values() if not row["events"] and not row["kind"] and row["known"] not in ("claimed", "yours")]  # fmt: skip
    assert unproven == []
    page = roi.roi_page(context)
    assert 'href="./events?of=2,4"' in page and "<b>EUR" not in page
    assert roi.table(context).csv().splitlines()[0] == ",".join(roi.COLUMNS)


@pytest.mark.parametrize("model", ["", "a"])
def test_the_curve_crosses_zero_in_the_month_of_break_even(context, model):
    """Each of the three lines begins at minus its investment and is zero in the month that `roi` says, for all models and for one."""
    earned = roi._earned(context, model)
    even = earned.break_even(max(earned.models, 1), earned.bill_a_month)
    curve, channels = charts(roi.roi_page(context, model))
    lines = [each for each in curve["data"] if each["mode"] == "lines"]
    for line, end, invested in zip(lines, ("low", "mid", "high"), (100_000, 240_000, 380_000), strict=True):
        slope = (line["y"][1] - line["y"][0]) / line["x"][1]
        assert line["y"][0] == -invested and -line["y"][0] / slope == pytest.approx(even[f"{end}_months"])
    assert len(channels["data"][0]["y"]) == 4
    assert channels["layout"]["xaxis"]["rangemode"] == "tozero", "a bar's place on the axis is its amount"


def test_where_it_never_breaks_even_the_line_falls_and_says_never(context):
    """A bill that is larger than all savings has no month of break-even, and the page says never."""
    context.ledger.append(StepEnded(state="success", wall_s=1, cpu_s=1e12, peak_mb=0), "a", "r", "train")
    page = roi.roi_page(context)
    lines = [each for each in charts(page)[0]["data"] if each["mode"] == "lines"]
    assert all(line["y"][1] < line["y"][0] and line["name"].endswith("never") for line in lines)
    assert ">never<" in page


def test_a_model_of_nobody_is_refused(context):
    """A name that neither params.yaml nor the ledger has is refused; one of the ledger alone has its page."""
    assert "What b earned" in roi.roi_page(context, "b")
    with pytest.raises(SettingsError, match="is not known"):
        roi.roi_page(context, "nobody")


def test_the_events_of_a_number_are_shown_with_what_is_missing(context):
    """Events by number or by kind are shown newest first with their bodies; a number that the ledger lacks, and no number, are said."""
    found = events.facts(context, "4,2,99", "", "")
    assert ([each["seq"] for each in found["events"]], found["missing"]) == ([4, 2], [99])
    assert '"version": "1"' in found["events"][0]["body"]
    assert [each["model"] for each in events.facts(context, "", "step_ended", "b")["events"]] == ["b"]
    assert [each["seq"] for each in events.facts(context, "", "rollout_ended,step_ended", "a")["events"]] == [2, 1]
    assert all(kind in KINDS for kinds in roi.MADE_OF.values() for kind in kinds.split(","))
    for asked in (("1,x", ""), ("", "nothing"), ("", "step_ended,nothing"), ("", "step_ended,")):
        with pytest.raises(SettingsError):
            events.events_page(context, *asked)
    assert "The ledger has no event 99" in events.events_page(context, "99")


def test_an_empty_ledger_has_no_bars_and_leads_nowhere(context, tmp_path):
    """Where nothing is saved yet no axis is drawn, and a measured nothing has no event."""
    empty = Context(context.environment, Ledger(f"sqlite:///{tmp_path / 'empty.db'}"))
    page = roi.roi_page(empty)
    assert 'id="channels"' not in page and "no event yet" in page
    assert 'id="channels"' in roi.roi_page(context)


def test_a_long_body_is_cut_where_it_is_shown(context):
    """Of a body of a hundred thousand characters the page has the first ones, and says how many there are."""
    context.ledger.append(StepEnded(state="failed", wall_s=1, cpu_s=1, peak_mb=0, error="x" * 100_000), "a", "r", "s")
    (row,) = events.facts(context, "5", "", "")["events"]
    assert len(row["body"]) < 5_000 and re.search(r"… of 100,0\d\d characters in the ledger$", row["body"])
