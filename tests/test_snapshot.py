"""The snapshot knows only what was known at its as-of, and is the same byte for byte each time."""

import hashlib

import pandas as pd
import pytest

from pipeline.data import snapshot
from pipeline.data.contract import read_snapshot
from pipeline.errors import DataError
from pipeline.params import load
from tests.conftest import change_params, customers


def take(project, name="one"):
    folder = project / name
    counts = snapshot.take("churn", load(project).model("churn"), project, folder, project / f"{name}.json")
    return folder, counts


def digests(folder):
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}


def test_rows_end_before_as_of_and_labels_are_known_by_then(project):
    folder, counts = take(project)
    rows = read_snapshot(folder)
    as_of = pd.Timestamp("2024-03-01", tz="UTC")
    assert rows.seen_at.max() < as_of
    assert rows.seen_at.min() >= as_of - pd.Timedelta(days=30)
    assert (rows.decided_at <= as_of).all()
    assert counts["label_later"] > 0
    assert counts["in"] == counts["without_label"] + counts["label_later"] + counts["rows"]
    assert counts["partitions"] == len(list(folder.iterdir()))


def test_the_same_window_gives_the_same_bytes(project):
    assert digests(take(project, "one")[0]) == digests(take(project, "two")[0])


def test_rows_and_labels_of_the_future_change_nothing(project):
    """Planted rows after the as-of, and labels that come later, leave every byte as it was."""
    before = digests(take(project, "one")[0])
    planted = customers().tail(500).assign(customer=[f"x{i}" for i in range(500)])
    early = planted.head(50).assign(
        seen_at=pd.Timestamp("2024-02-20", tz="UTC"), decided_at=pd.Timestamp("2024-03-02", tz="UTC")
    )
    pd.concat([planted, early]).to_parquet(project / "customers" / "future.parquet")
    assert digests(take(project, "two")[0]) == before


def test_a_missing_column_is_named_with_those_there_are(project):
    frame = customers().drop(columns="spend")
    frame.to_parquet(project / "customers" / "all.parquet")
    with pytest.raises(DataError, match="has no column spend; it has: customer, seen_at"):
        take(project)


def test_a_retyped_column_is_named(project):
    customers().assign(spend="much").to_parquet(project / "customers" / "all.parquet")
    with pytest.raises(DataError, match="column spend holds VARCHAR, not a number"):
        take(project)


def test_no_rows_is_one_line(project):
    change_params(project, "models.churn.as_of", "2031-01-01T00:00:00Z")
    with pytest.raises(DataError, match="no rows from 2030-12-02"):
        take(project)


def test_a_truncated_file_is_one_line(project):
    path = project / "customers" / "all.parquet"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError) as refused:
        take(project)
    assert "\n" not in str(refused.value)


def test_a_hook_can_be_the_source(project, monkeypatch):
    """module:function(start, end) instead of SQL, where SQL is not enough."""
    (project / "my_source.py").write_text(
        "import pandas as pd\n"
        "def rows(start, end):\n"
        "    frame = pd.read_parquet('customers/all.parquet')\n"
        "    return frame[(frame.seen_at >= start) & (frame.seen_at < end)]\n"
    )
    monkeypatch.syspath_prepend(str(project))
    by_query = digests(take(project, "one")[0])
    change_params(project, "models.churn.source.query", None)
    change_params(project, "models.churn.source.hook", "my_source:rows")
    assert digests(take(project, "two")[0]) == by_query
