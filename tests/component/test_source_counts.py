"""From the source's files to the reports of a run: each row is counted exactly once."""

import json

import numpy as np
import pandas as pd

from harness.project import change_params, customers
from pipeline.data import contract, snapshot
from pipeline.settings.models import load


def test_every_row_of_the_source_is_counted_exactly_once(project):
    """Each row of the source is counted once: without time, without label, label later, quarantined or kept."""
    frame = customers()
    as_of, start = pd.Timestamp("2024-03-01", tz="UTC"), pd.Timestamp("2024-01-31", tz="UTC")
    frame = frame[(frame.seen_at >= start) & (frame.seen_at < as_of)].reset_index(drop=True)
    label = frame.index[frame.decided_at <= as_of]
    frame.loc[label[:7], "seen_at"] = pd.NaT
    frame.loc[label[10:15], "left"] = np.nan
    frame.loc[label[15:18], "decided_at"] = pd.NaT
    frame.loc[label[20:31], "plan"] = "gold"
    frame.loc[label[40:43], "customer"] = None
    day = frame[frame.seen_at.dt.strftime("%Y-%m-%d") == "2024-02-20"]
    frame.to_parquet(project / "customers" / "all.parquet")
    day.to_parquet(project / "customers" / "20-again.parquet")
    query = "SELECT * FROM read_parquet('customers/*.parquet') WHERE seen_at IS NULL OR (seen_at >= $start AND seen_at < $end)"
    change_params(project, "models.churn.source.query", query)
    model = load(project).model("churn")
    folder, counts, quarantine, report = (project / n for n in ("snap", "c.json", "q.parquet", "r.json"))
    snapshot.take("churn", model, project, folder, counts, project / "partitions.db")
    contract.check("churn", model, folder, counts, quarantine, report)
    taken, checked = json.loads(counts.read_text()), json.loads(report.read_text())
    late = int((frame.decided_at > as_of).sum())
    assert taken["in"] == len(frame) + len(day) == 1800 + 60
    assert (taken["without_time"], taken["without_label"], taken["label_later"]) == (7, 5, late + 3)
    assert taken["in"] == taken["without_time"] + taken["without_label"] + taken["label_later"] + taken["rows"]
    assert sum(taken["rows_a_day"].values()) == taken["in"] - taken["without_time"]
    assert taken["rows"] == checked["in"] == checked["kept"] + checked["quarantined"]
    assert checked["quarantined"] == 11 + 3 + 60 == len(pd.read_parquet(quarantine))
    kept = contract.kept_rows(folder, quarantine)
    assert len(kept) == checked["kept"]
    assert kept.customer.is_unique
