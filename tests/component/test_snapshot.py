"""The snapshot knows only what was known at its as-of, and is the same byte for byte each time."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.project import change_params, customers
from pipeline.data import partition_cache, snapshot
from pipeline.data.contract import read_snapshot
from pipeline.errors import DataError
from pipeline.serving.schema import Schema
from pipeline.settings.models import load


def take(project, name="one"):
    folder = project / name
    model = load(project).model("churn")
    return folder, snapshot.take("churn", model, project, folder, project / f"{name}.json", project / "partitions.db")


def digests(folder):
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}


def test_rows_end_before_as_of_and_labels_are_known_by_then(project):
    """A snapshot holds the rows of the window before the as-of, with labels known by then, and counts all others."""
    folder, counts = take(project)
    rows = read_snapshot(folder)
    as_of = pd.Timestamp("2024-03-01", tz="UTC")
    assert rows.seen_at.max() < as_of
    assert rows.seen_at.min() >= as_of - pd.Timedelta(days=30)
    assert (rows.decided_at <= as_of).all()
    assert counts.label_later > 0
    assert counts.rows_in == counts.without_label + counts.label_later + counts.rows
    assert counts.partitions == len(list(folder.glob("*.parquet")))
    days = json.loads((project / "one.json").read_text())["rows_a_day"]
    assert sum(days.values()) == counts.rows_in


def test_the_same_window_gives_the_same_bytes(project):
    """The same window gives the same bytes, also without the index of landed partitions."""
    before = digests(take(project, "one")[0])
    (project / "partitions.db").unlink()
    assert digests(take(project, "two")[0]) == before


def commit(project, folder):
    """What DVC does with a stage's output: the files go to the cache."""
    import dvc_data.hashfile.build
    from dvc_data.hashfile.transfer import transfer
    from dvc_objects.fs.local import localfs

    with partition_cache.repository(project) as repo:
        staged, _, tree = dvc_data.hashfile.build.build(repo.cache.local, str(folder), localfs, "md5")
        transfer(staged, repo.cache.local, {tree.hash_info}, shallow=False)


def test_a_partition_lands_once(project):
    """An unchanged partition is not written again, and corrected or late rows rewrite their days only."""
    folder, first = take(project, "one")
    assert first.landed == first.partitions
    before = digests(folder)
    commit(project, folder)
    folder, again = take(project, "two")
    assert (again.landed, again.rows - first.rows) == (0, 0)
    assert digests(folder) == before
    frame = customers()
    frame.loc[frame.customer == "c002500", "spend"] += 1
    late = frame[frame.customer == "c002600"].assign(customer="late")
    pd.concat([frame, late]).to_parquet(project / "customers" / "all.parquet")
    folder, third = take(project, "three")
    assert (third.landed, third.rows - first.rows) == (2, 1)
    changed = {name for name, digest in digests(folder).items() if before[name] != digest}
    days = {f"{t:%Y-%m-%d}.parquet" for t in (frame.seen_at[2500], frame.seen_at[2600])}
    assert changed == days


def test_a_lost_cache_loses_nothing(project):
    """Partitions that the DVC cache has lost are written again with the same bytes."""
    folder, first = take(project, "one")
    commit(project, folder)
    before = digests(folder)
    shutil.rmtree(project / ".dvc" / "cache")
    folder, again = take(project, "two")
    assert again.landed == first.partitions
    assert digests(folder) == before


def test_a_file_of_the_cache_that_was_cut_short_is_written_again(project):
    """A truncated file in the DVC cache is written again."""
    folder, _ = take(project, "one")
    commit(project, folder)
    before = digests(folder)
    shutil.rmtree(folder)  # its files may be links to those of the cache
    cached = [f for f in (project / ".dvc" / "cache" / "files").rglob("*") if f.is_file()]
    biggest = max(cached, key=lambda f: f.stat().st_size)
    biggest.chmod(0o644)
    os.truncate(biggest, 100)
    biggest.chmod(0o444)  # what is write-protected, DVC takes for whole
    folder, again = take(project, "two")
    assert again.landed == 1
    assert digests(folder) == before
    commit(project, folder)
    assert biggest.stat().st_size > 100, "the cache has the whole file again"
    assert take(project, "three")[1].landed == 0


def test_the_order_of_the_source_does_not_matter(project):
    """The order of the source's rows does not change the snapshot's bytes."""
    frame = pd.concat([customers(), customers().head(1800).assign(spend=1.0)])
    frame.to_parquet(project / "customers" / "all.parquet")
    before = digests(take(project, "one")[0])
    frame.sample(frac=1, random_state=3).to_parquet(project / "customers" / "all.parquet")
    (project / "partitions.db").unlink()
    assert digests(take(project, "two")[0]) == before


def test_rows_and_labels_of_the_future_change_nothing(project):
    """Rows after the as-of, and labels that come later, change no byte of the snapshot."""
    before = digests(take(project, "one")[0])
    (project / "partitions.db").unlink()
    planted = customers().tail(500).assign(customer=[f"x{i}" for i in range(500)])
    early = planted.head(50).assign(
        seen_at=pd.Timestamp("2024-02-20", tz="UTC"), decided_at=pd.Timestamp("2024-03-02", tz="UTC")
    )
    pd.concat([planted, early]).to_parquet(project / "customers" / "future.parquet")
    assert digests(take(project, "two")[0]) == before


def test_no_file_tells_what_was_learnt_later(project):
    """The snapshot and its counts are byte for byte what they were at the as-of itself."""
    as_of, file = pd.Timestamp("2024-03-01", tz="UTC"), project / "customers" / "all.parquet"
    now = customers()
    then = now[now.seen_at < as_of].copy()
    then.loc[then.decided_at > as_of, ["left", "decided_at"]] = [np.nan, pd.NaT]
    then.to_parquet(file)
    before = digests(take(project, "then")[0])
    now.to_parquet(file)
    assert digests(take(project, "now")[0]) == before
    assert (project / "now.json").read_bytes() == (project / "then.json").read_bytes()
    now.loc[now.decided_at <= as_of, "spend"] += 1
    now.to_parquet(file)
    assert digests(take(project, "other")[0]) != before


def test_a_missing_column_is_named_with_those_there_are(project):
    """A missing column is named together with the columns that the source has."""
    frame = customers().drop(columns="spend")
    frame.to_parquet(project / "customers" / "all.parquet")
    with pytest.raises(
        DataError, match="has no column spend; add it; the columns are customer, seen_at, .*decided_at$"
    ):
        take(project)


def test_a_retyped_column_is_named(project):
    """A numeric column that holds text is named with examples."""
    customers().assign(spend="much").to_parquet(project / "customers" / "all.parquet")
    with pytest.raises(
        DataError, match="column spend is no number in 1,800 of 1,800 rows, e.g. 'much'; cast it in models"
    ):
        take(project)


def test_no_rows_is_one_line(project):
    """A window without rows gives one line with the window's start."""
    change_params(project, "models.churn.as_of", "2031-01-01T00:00:00Z")
    with pytest.raises(DataError, match="no rows from 2030-12-02"):
        take(project)


def test_a_renamed_column_is_named(project):
    """A renamed column is reported as missing, beside the columns that the source has."""
    customers().rename(columns={"calls": "phone_calls"}).to_parquet(project / "customers" / "all.parquet")
    with pytest.raises(
        DataError, match="has no column calls; add it; the columns are customer, seen_at, spend, phone_calls"
    ):
        take(project)


def test_one_file_of_another_type_than_the_rest_is_one_line(project):
    """A file whose column has another type than in the other files gives one line with the column."""
    frame = customers()
    (project / "customers" / "all.parquet").unlink()
    frame.head(2400).to_parquet(project / "customers" / "a.parquet")
    frame.tail(-2400).assign(spend="much").to_parquet(project / "customers" / "b.parquet")
    with pytest.raises(DataError) as refused:
        take(project)
    assert "spend" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_truncated_file_is_one_line(project):
    """A truncated source file gives one line."""
    path = project / "customers" / "all.parquet"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError) as refused:
        take(project)
    assert "\n" not in str(refused.value)


def test_a_hook_can_be_the_source(project, monkeypatch, tmp_path):
    """A hook module:function(start, end) gives the same snapshot as a query; its relative paths start at the project too."""
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
    # A run's stages work in its workspace, which has none of the data.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert digests(take(project, "two")[0]) == by_query
    assert Path.cwd() == elsewhere


def test_any_kind_of_time_column_is_compared_in_utc(project):
    """Dates, text and nanoseconds, with and without a zone, give the same snapshot."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    frame = customers()
    before, counts = take(project, "one")
    path = project / "customers" / "all.parquet"
    for name, change in {
        "ns": lambda t: t.dt.as_unit("ns"),
        "naive": lambda t: t.dt.tz_localize(None),
        "naive_ns": lambda t: t.dt.tz_localize(None).dt.as_unit("ns"),
        "text": lambda t: t.dt.strftime("%Y-%m-%dT%H:%M:%S.%f%z"),
        "zone": lambda t: t.dt.tz_convert("America/New_York"),
    }.items():
        changed = frame.assign(decided_at=change(frame.decided_at))
        if name in ("naive", "zone"):  # the query itself compares this one, and DuckDB not in every type
            changed = changed.assign(seen_at=change(frame.seen_at))
        pq.write_table(pa.Table.from_pandas(changed, preserve_index=False), path)
        folder, changed_counts = take(project, name)
        assert changed_counts.as_dict() == counts.as_dict(), name
        assert digests(folder) == digests(before), name


def test_a_query_that_compares_nanoseconds_is_told_what_to_write(project):
    """A query that compares a nanosecond column fails with the cast to write."""
    frame = customers()
    frame.assign(seen_at=frame.seen_at.dt.as_unit("ns")).to_parquet(project / "customers" / "all.parquet")
    with pytest.raises(DataError, match="write seen_at::TIMESTAMPTZ in the query"):
        take(project)
    change_params(
        project,
        "models.churn.source.query",
        "SELECT * FROM read_parquet('customers/*.parquet') WHERE seen_at::TIMESTAMPTZ >= $start AND seen_at::TIMESTAMPTZ < $end",
    )
    assert take(project)[1].rows == 1681


def test_a_source_may_have_any_other_column(project):
    """Columns that no setting names change nothing of the snapshot."""
    frame = customers().assign(day=1, rows=2, landing="x", unread="y", perennial_file="z")
    before = digests(take(project, "one")[0])
    frame.to_parquet(project / "customers" / "all.parquet")
    assert digests(take(project, "two")[0]) == before


def test_rows_without_a_time_or_a_label_are_counted(project, monkeypatch):
    """Rows without a time or with a missing label are counted and left out."""
    (project / "untimely_source.py").write_text(
        "import pandas as pd\n"
        "def rows(start, end):\n"
        "    frame = pd.read_parquet('customers/all.parquet')\n"
        "    frame.loc[2000:2002, 'seen_at'] = pd.NaT\n"
        "    frame.loc[2010:2014, 'left'] = float('nan')\n"
        "    return frame\n"
    )
    monkeypatch.syspath_prepend(str(project))
    change_params(project, "models.churn.source.query", None)
    change_params(project, "models.churn.source.hook", "untimely_source:rows")
    counts = take(project)[1]
    assert (counts.without_time, counts.without_label) == (3, 5)
    assert counts.rows_in == sum((counts.without_time, counts.without_label, counts.label_later, counts.rows))


@pytest.mark.parametrize(
    ("body", "told"), [("raise ValueError('boom')", "raised ValueError: boom"), ("return None", "returned NoneType")]
)
def test_a_hook_that_fails_is_one_line(project, monkeypatch, body, told):
    """A source hook that raises or returns no frame gives one line that names the hook."""
    name = f"hook_{len(body)}"
    (project / f"{name}.py").write_text(f"def rows(start, end):\n    {body}\n")
    monkeypatch.syspath_prepend(str(project))
    change_params(project, "models.churn.source.query", None)
    change_params(project, "models.churn.source.hook", f"{name}:rows")
    with pytest.raises(DataError, match=f"hook {name}:rows: {told}"):
        take(project)


def test_labels_that_change_places_make_another_partition(project):
    """Two labels that change places make another partition, though all counts stay the same."""
    import duckdb

    frame = customers()
    before = digests(take(project, "one")[0])
    of_day = frame[frame.seen_at.dt.date.astype(str) == "2024-02-10"]
    leaves, stays = of_day.index[of_day.left == 1][0], of_day.index[of_day.left == 0][0]
    frame.loc[[leaves, stays], "left"] = [0.0, 1.0]
    frame.to_parquet(project / "customers" / "all.parquet")
    after = digests(take(project, "two")[0])
    assert [name for name in after if after[name] != before[name]] == ["2024-02-10.parquet"]
    rows = "SELECT 'c' || i AS c, i * 0.37 AS x, (i = {})::DOUBLE AS y FROM range(1500000) r(i)"
    fold = "SELECT bit_xor(hash(hash(c, x, y))), sum(hash(hash(c, x, y))) FROM ({})"
    assert (
        duckdb.sql(fold.format(rows.format(164567))).fetchall()
        != duckdb.sql(fold.format(rows.format(47030))).fetchall()
    )


def rewritten(project, change):
    """The project's customers as `change(frame)` has them."""
    frame = change(customers())
    for file in (project / "customers").iterdir():
        file.unlink()
    frame.to_parquet(project / "customers" / "all.parquet")


LOCAL = "America/Los_Angeles"


def test_local_times_are_of_the_sources_zone(project):
    """Times without a zone are local ones where source.timezone says so: the same rows, and no label that came after the as-of."""
    expected = read_snapshot(take(project)[0])

    def local(frame):
        times = {c: frame[c].dt.tz_convert(LOCAL).dt.tz_localize(None) for c in ("seen_at", "decided_at")}
        return frame.assign(**times)

    rewritten(project, local)
    change_params(project, "models.churn.source.timezone", LOCAL)
    folder, _ = take(project, "two")
    rows = read_snapshot(folder)
    assert rows.equals(expected)
    assert Schema.of_snapshot(folder).timezone == LOCAL


def test_a_label_with_a_date_alone_is_known_at_the_end_of_that_day(project):
    """A DATE says that a label became known on that day, so at the day's begin it was not known yet, whatever type the column has."""
    as_of = pd.Timestamp("2024-03-01", tz="UTC")
    dates = {
        "a DATE": lambda frame: frame.assign(decided_at=frame["decided_at"].dt.date),
        "a text": lambda frame: frame.assign(decided_at=frame["decided_at"].dt.strftime("%Y-%m-%d")),
    }
    change_params(project, "models.churn.as_of", as_of.isoformat())
    for name, change in dates.items():
        rewritten(project, change)
        rows = read_snapshot(take(project, name.replace(" ", "-"))[0])
        # A customer of the 27th is decided on the 29th, which ends at the as-of; one of the 28th on the as-of's own day.
        assert f"{rows.seen_at.max():%Y-%m-%d}" == "2024-02-27", name
        assert rows.decided_at.max() == as_of, name


def test_a_row_that_arrived_later_is_in_no_earlier_as_of(project):
    """With an arrival time, rows that came late are not in an as-of before, not even in its counts."""
    before = take(project)
    frame = customers()
    late = frame[frame["seen_at"].dt.strftime("%Y-%m-%d").isin(["2024-02-10", "2024-02-11"])]
    late = late.assign(customer="late" + late["customer"])

    def add(frame):
        arrived = frame.assign(arrived_at=frame["seen_at"])
        return pd.concat([arrived, late.assign(arrived_at=pd.Timestamp("2024-04-01", tz="UTC"))], ignore_index=True)

    rewritten(project, add)
    with_late = read_snapshot(take(project, "late")[0])
    assert with_late["customer"].str.startswith("late").sum() == 120
    change_params(project, "models.churn.source.arrival_time", "arrived_at")
    after = take(project, "known")
    assert digests(after[0]) == digests(before[0])
    assert (project / "known.json").read_text() == (project / "one.json").read_text()
