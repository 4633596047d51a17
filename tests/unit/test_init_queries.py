"""`perennial init` of a query: the window that it cuts, and what it says of the query."""

from datetime import timedelta

import pandas as pd
import pytest

from pipeline.data import source, sql
from pipeline.errors import DataError
from pipeline.init.request import Request
from pipeline.init.run import init
from pipeline.settings.models import load
from tests.unit.test_init import SPEND, TABLE, project

__all__ = ["project"]

ALL = "SELECT * FROM 'rows.parquet'"


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


def test_a_query_that_is_another_one_each_time_is_said(project):
    """The days to now() train and would never come again; a comment before the query is no file's name."""
    TABLE.to_parquet(project / "rows.parquet", index=False)
    data = "-- all of them\n/* of 2024 */ SELECT *, date_diff('day', seen_at::TIMESTAMP, now()::TIMESTAMP) AS days FROM 'rows.parquet'"
    first = init(Request("churn", data, "churned", "seen_at"), project, True).draft.assumptions[0]
    assert str(first).startswith("query: now(), other values each time that the source is read")


def test_a_query_with_its_window_is_refused_with_the_way_on(project):
    """As it stands in a block: `init` writes the condition on the time itself. In a text it is no parameter."""
    TABLE.to_parquet(project / "rows.parquet", index=False)
    with pytest.raises(DataError, match=r"--data: has \$end, \$start; leave that condition out: init writes it"):
        init(Request("churn", f"{ALL} WHERE seen_at >= $start AND seen_at < $end", "churned", "seen_at"), project, True)
    with pytest.raises(DataError, match=r"--data: has \$least; write the value itself there"):
        init(Request("churn", f"{ALL} WHERE spend > $least", "churned", "seen_at"), project, True)
    init(Request("churn", f"{ALL} WHERE plan <> '$start'", "churned", "seen_at"), project, True)
