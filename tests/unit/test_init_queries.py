"""`perennial init` of a query: the window that it cuts."""

from datetime import timedelta

import pandas as pd
import pytest

from pipeline.data import source, sql
from pipeline.init.request import Request
from pipeline.init.run import init
from pipeline.settings.models import load
from tests.unit.test_init import SPEND, TABLE, project

__all__ = ["project"]


@pytest.mark.parametrize(
    "kind",
    [
        "seen_at",
        "seen_at::TIMESTAMPTZ",
        "seen_at::TIMESTAMP_NS",
        "seen_at::TIMESTAMPTZ_NS",
        "seen_at::DATE",
        "CASE WHEN spend > 3 THEN 'soon' ELSE seen_at END",
        "epoch(seen_at::TIMESTAMP)::BIGINT::VARCHAR",
        "epoch_ms(seen_at::TIMESTAMP)",
    ],
)
def test_a_querys_window_is_cut_whatever_its_times_are(project, kind):
    """The proposed query runs with $start and $end for times of each type, texts too, and a text that is no time stays for the snapshot to count."""
    TABLE.to_parquet(project / "rows.parquet", index=False)
    data = f"SELECT * REPLACE ({kind} AS seen_at) FROM 'rows.parquet'"
    init(Request("churn", data, "churned", "seen_at"), project, False)
    model = load(project).models["churn"]
    with sql.connect(project) as connection:
        start, end = model.as_of - timedelta(days=10), model.as_of
        source.load(connection, model.source, model.training, start, end, "churn")
        ((rows, unread),) = connection.execute(
            "SELECT count(*), count(*) FILTER (seen_at IS NULL) FROM rows"
        ).fetchall()
    bad = int((SPEND > 3).sum()) if "soon" in kind else 0
    assert unread == bad
    # A time in 2024 without a zone, as all here.
    late = pd.to_datetime(TABLE.seen_at) >= start
    assert rows - bad == int((late & ~((SPEND > 3) & (bad > 0))).sum())
