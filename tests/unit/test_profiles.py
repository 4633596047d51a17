"""Profiles are counts: those of parts, added, are that of the whole, wherever the rows lie."""

from datetime import date

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline.monitoring.profiles import reference as references
from pipeline.monitoring.profiles.counting import profiles
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.monitoring.profiles.layout import TOP, Layout, layout_of
from pipeline.monitoring.profiles.profile import total


@pytest.fixture
def rows():
    """1,000 rows of ten days with numbers, few numbers and a category, and what is missing or infinite of each."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "x": rng.normal(0, 1, 1000).astype("float32"),
            "few": rng.choice([0.1, 0.2, 7.0], 1000).astype("float32"),
            "kind": rng.choice(["a", "b", "c", None], 1000, p=[0.6, 0.3, 0.05, 0.05]),
        }
    )
    frame.loc[:9, "x"] = [np.nan, np.inf, -np.inf, np.inf, *frame["x"][4:10]]
    return frame


@pytest.fixture
def times():
    """The times of the rows."""
    return pd.Series(pd.date_range("2024-01-01", periods=1000, freq="864s", tz="UTC"))


def layout(rows):
    return layout_of(rows, ["x", "few"], ["kind"])


def cells(profile):
    return {name: counts.tolist() for name, counts in profile.cells.items()}


def test_every_row_is_in_one_cell_of_each_column(rows):
    """The cells of a column add up to the rows; missing values and infinities have cells of their own."""
    found, columns = profile_of(rows, layout(rows)), {c.name: c for c in layout(rows).columns}
    assert {name: counts.sum() for name, counts in found.cells.items()} == dict.fromkeys(columns, 1000)
    x = columns["x"]
    special = [found.cells["x"][x.special(cell)] for cell in ("missing", "minus_infinity", "plus_infinity")]
    assert special == [1, 1, 2]
    assert found.cells["kind"][columns["kind"].special("missing")] == rows["kind"].isna().sum()
    # Deciles of the reference's own rows: equal shares, and nothing outside.
    assert found.cells["x"][: x.buckets].tolist() == [0, *[pytest.approx(100, abs=1)] * 10, 0]
    assert x.buckets == len(x.points)


def test_a_value_of_float32_is_in_the_bucket_of_its_own(rows):
    """Few values have a bucket each, and what lies between them is in a gap."""
    few = next(c for c in layout(rows).columns if c.name == "few")
    found = profile_of(rows.assign(few=np.float32(0.1)), layout(rows)).cells["few"]
    assert found[1] == 1000
    assert few.points[1] == pytest.approx(0.1)
    assert profile_of(rows.assign(few=0.15), layout(rows)).cells["few"][2] == 1000


def test_profiles_of_parts_add_up_to_that_of_the_whole(rows):
    """In any cut and any order."""
    fixed = layout(rows)
    parts = [profile_of(part, fixed) for part in (rows[600:], rows[:250], rows[250:600], rows[:0])]
    assert cells(total(parts, fixed)) == cells(profile_of(rows, fixed))
    assert total(parts, fixed).rows == 1000


def test_a_column_that_a_part_lacks_is_not_in_the_sum(rows):
    """Nothing is known of its rows, so it is not counted as missing."""
    fixed = layout(rows)
    assert "x" not in (profile_of(rows, fixed) + profile_of(rows.drop(columns="x"), fixed)).cells


def test_rows_are_counted_where_they_lie(rows, times, tmp_path):
    """DuckDB counts a file by its days as it counts a table in memory, without loading it."""
    rows.assign(at=times).to_parquet(tmp_path / "rows.parquet")
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        relation = f"read_parquet('{tmp_path / 'rows.parquet'}')"
        found = profiles(connection, relation, layout(rows), day='CAST("at" AS DATE)')
    assert len(found) == 10
    assert cells(total(found.values(), layout(rows))) == cells(profile_of(rows, layout(rows)))


@pytest.mark.parametrize(
    "name", ["day", "cell", "category", "counted", "counted_day", "listed_value", "count", 'a "b"']
)
def test_a_column_may_have_any_name(rows, times, name):
    """Also one that the counting itself uses."""
    for column, named in (("x", "few"), ("kind", "few")):
        renamed = rows[[column, named]].rename(columns={column: name})
        lists = ([name, named], []) if column == "x" else ([named], [name])
        made = references.reference_of(renamed, *lists, times)
        expected = references.reference_of(
            rows, *([n if n != name else column for n in names] for names in lists), times
        )
        assert made.whole.cells[name].tolist() == expected.whole.cells[column].tolist()


def test_categories_are_frequent_learnt_or_unknown():
    """A frequent one has a bucket, the others that were learnt one together, and what was never learnt a cell."""
    learnt = [f"k{i}" for i in range(500)]
    before = pd.DataFrame({"kind": ["big"] * 500 + learnt})
    (kind,) = (fixed := layout_of(before, [], ["kind"])).columns
    assert kind.top == ("big",)
    now = pd.DataFrame({"kind": ["big", "k7", "k499", "new", "newer", None]})
    found = profile_of(now, fixed, {"kind": frozenset([*learnt, "big"])}).cells["kind"]
    assert (found[0], found[1], found[kind.special("unknown")], found[kind.special("missing")]) == (1, 2, 2, 1)
    assert profile_of(now, fixed).cells["kind"][1] == 4
    many = pd.DataFrame({"kind": [f"v{i}" for i in range(TOP + 9)] * 100})
    assert len(layout_of(many, [], ["kind"]).columns[0].top) == TOP


def test_a_reference_is_kept_in_the_file_of_its_sample(rows, times, tmp_path):
    """What is read is what was kept, beside the sample's rows; the same rows give the same bytes; a file without profiles has none."""
    made = references.reference_of(rows, ["x", "few"], ["kind"], times)
    for name in ("a", "b"):
        rows.to_parquet(tmp_path / name)
        assert references.kept_in(tmp_path / name) is None
        references.keep_in(tmp_path / name, made)
    read = references.kept_in(tmp_path / "a")
    assert read.layout == made.layout
    assert {at: cells(p) for at, p in read.days.items()} == {at: cells(p) for at, p in made.days.items()}
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    pd.testing.assert_frame_equal(pq.read_table(tmp_path / "a").to_pandas(), rows)
    assert len(read.days) == 10


def test_profiles_of_another_version_are_made_anew(rows, times):
    """They are not compared with today's."""
    text = references.reference_of(rows, ["x"], [], times).as_text()
    assert references.Reference.read_text(text.replace('"version":1', '"version":0')) is None


def test_of_a_reference_of_years_the_older_days_are_kept_by_weeks(rows):
    """Weeks that are counted back from the newest day, so that only the first is a part of one, under its own first day."""
    times = pd.Series(pd.date_range("2020-01-01", periods=1000, freq="36h", tz="UTC"))
    made = references.reference_of(rows, ["x"], [], times)
    days, last = [*made.days], times.iloc[-1].date()
    newest = [at for at in days if (last - at).days < references.MOST_DAYS]
    assert (len(newest), days[0], days[-1]) == (references.MOST_DAYS * 2 // 3, date(2020, 1, 1), last)
    assert {(last - at).days % 7 for at in days[1 : -len(newest)]} == {6}
    assert (len(days) - len(newest), made.rows) == (101, 1000)


def test_an_empty_column_has_a_layout():
    """A column without a value in the reference can be counted later, and each bucket has a name."""
    nothing = pd.DataFrame({"x": [None] * 5, "kind": [None] * 5})
    fixed = layout_of(nothing, ["x"], ["kind"])
    assert profile_of(pd.DataFrame({"x": [1.0], "kind": ["a"]}), fixed).rows == 1
    assert Layout.read(fixed.as_dict()) == fixed
    assert [c.bucket_name(0) for c in fixed.columns] == ["all values", "all others"]
