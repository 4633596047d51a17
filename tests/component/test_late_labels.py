"""A run whose labels come late counts what it leaves out, measures the delay, and is refused by name where nothing is left to judge."""

from __future__ import annotations

import json
import logging
from datetime import timedelta

import pandas as pd
import pytest

from harness.project import change_params, customers
from pipeline.context import Context
from pipeline.deployer import traffic
from pipeline.errors import GateError
from pipeline.ledger.events import DataLanded, GatesChecked
from pipeline.pages import overview
from pipeline.runs import stages, steps
from tests.support.versions import AS_OF

DAY_S = 86_400
LATE = "label delay 9 days (median), 95 % within 9 days"


def late_labels(project, days):
    """The customers, with labels that come so many days after their rows."""
    rows = customers()
    rows["decided_at"] = (rows["seen_at"] + pd.Timedelta(days=days)).dt.as_unit("us")
    rows.to_parquet(project / "customers" / "all.parquet")


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_the_snapshot_says_what_it_leaves_out_and_how_long_labels_take(project):
    """Its line and snapshot.json have the rows without a label and the delay, the same bytes each time."""
    rows = customers()
    rows.loc[rows.index[2000:2005], "left"] = float("nan")
    rows.to_parquet(project / "customers" / "all.parquet")
    said = stages.run("snapshot", "churn")
    assert said == (
        "1,676 labelled rows in 29 partitions, 29 of them new; 124 of 1,800 rows left out for want of a label (5 lack it though "
        "its time has come, 119 had none at the as-of); label delay 2 days (median), 95 % within 2 days"
    )
    counts = project / "artifacts" / "churn" / "snapshot.json"
    written = counts.read_bytes()
    taken = json.loads(written)
    assert taken["label_delay_s"] == {"median": 2 * DAY_S, "p95": 2 * DAY_S}
    assert (taken["in"], taken["without_label"], taken["label_later"]) == (1800, 5, 119)
    stages.run("snapshot", "churn")
    assert counts.read_bytes() == written


def test_a_source_without_label_times_has_no_delay(project):
    """The line warns as before, and nothing is measured."""
    change_params(project, "models.churn.source.label_time", None)
    assert "label delay" not in stages.run("snapshot", "churn")
    assert "label_delay_s" not in json.loads((project / "artifacts" / "churn" / "snapshot.json").read_bytes())


def test_held_out_days_that_no_label_reaches_are_refused_before_anything_is_trained(project, caplog):
    """The gate has rows, limit, days and delay; the next run is told when it opens, and goes on to measure anew."""
    late_labels(project, 9)
    context = Context.here()
    folder = steps.open_run(context, "late", "churn", AS_OF, "a test")
    steps.run_stage(context, folder, "snapshot")
    with pytest.raises(GateError) as refused:
        steps.run_stage(context, folder, "validate")
    rows = "0 labelled rows in the last 7 days (evaluation.holdout_days), at least 50 required (evaluation.min_holdout_rows)"
    assert f"held_out_rows: {rows}; {LATE}" in str(refused.value)
    landed = context.ledger.events(DataLanded)[-1].event
    assert landed.label_delay_s == {"median": 9 * DAY_S, "p95": 9 * DAY_S}
    assert landed.sentence().endswith(LATE)
    (status,) = traffic(context).status("churn")
    assert (status.label_delay_s, status.labels) == (landed.label_delay_s, LATE)
    assert LATE.capitalize() in overview.overview_page(context)
    failed = [v["gate"] for v in context.ledger.events(GatesChecked)[-1].event.verdicts if not v["passed"]]
    assert failed == ["held_out_rows"]
    caplog.clear()
    steps.open_run(context, "earlier", "churn", AS_OF - timedelta(days=1), "a test")
    assert warnings(caplog) == []
    late_labels(project, 2)
    folder = steps.open_run(context, "quick again", "churn", AS_OF + timedelta(days=1), "a test")
    assert warnings(caplog) == [
        "models.churn.evaluation.holdout_days is 7 days, but labels come 9 days after their rows (median; 95 % within 9 days): "
        "of the held-out rows hardly one has a label; set more than 9 days and less than source.window_days, 30"
    ]
    for stage in ("snapshot", "validate"):
        steps.run_stage(context, folder, stage)
