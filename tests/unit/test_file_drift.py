"""Two files are compared by what their cells are, in CSV and in Parquet alike."""

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import DataError
from pipeline.monitoring.drift_page import Sides, drift_page
from pipeline.monitoring.file_drift import compare_files
from pipeline.monitoring.look_lines import PastLook, time_lines
from tests.support.spellings import NUMBERS, UNREADABLE


@pytest.fixture
def rows():
    """A table with numbers, a code, truth values, a category and a time; its text NA is a country."""
    rng = np.random.default_rng(3)
    count = 3000
    return pd.DataFrame(
        {
            "id": [f"c{i}" for i in range(count)],
            "spend": rng.uniform(1, 9, count).round(2),
            "code": rng.choice(["040", "041", "007"], count),
            "member": rng.random(count) < 0.5,
            "country": rng.choice(["NA", "DE", "FR"], count),
            "seen_at": pd.date_range("2024-01-01", periods=count, freq="h", tz="UTC").floor("D"),
        }
    )


@pytest.mark.parametrize("reference", ["csv", "csv.gz", "parquet"])
@pytest.mark.parametrize("current", ["csv", "parquet"])
def test_the_same_table_has_not_moved_whatever_its_form(rows, tmp_path, reference, current):
    """A table compared with itself has the same features and no drift in each pair of forms, and says that it leaves out its times and names."""
    write(rows, tmp_path / f"a.{reference}")
    write(rows, tmp_path / f"b.{current}")
    verdict = compare_files(tmp_path / f"a.{reference}", tmp_path / f"b.{current}").drift
    assert (verdict.verdict, verdict.moved) == ("no drift", [])
    assert sorted(f.feature for f in verdict.features) == ["code", "country", "member", "spend"]
    assert verdict.reason.endswith("; not compared: id (another text in nearly every row), seen_at (times)")


def write(rows, path):
    rows.to_parquet(path) if path.suffix == ".parquet" else rows.to_csv(path, index=False)


def test_a_late_decimal_counts_as_what_it_is(rows, tmp_path):
    """Whole numbers and then decimals are numbers; a code that appears late makes its column one of texts."""
    spends = ["7"] * 29_000 + ["0.37"] * 1000
    pd.DataFrame({"spend": spends, "code": ["7"] * 29_999 + ["040"]}).to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame({"spend": ["7"] * 30_000, "code": ["7"] * 30_000}).to_csv(tmp_path / "b.csv", index=False)
    verdict = compare_files(tmp_path / "a.csv", tmp_path / "b.csv").drift
    assert {f.feature for f in verdict.features} == {"spend", "code"}


def test_each_spelling_of_a_number_is_the_number(rows, tmp_path):
    """A column in the spellings of the table is one of numbers, and with one text that is none it has no verdict, by column and count."""
    good = [text for text, value in NUMBERS if value != UNREADABLE and not text.strip().lstrip("-+").startswith("0")]
    frame = pd.DataFrame({"n": good * 40, "c": "x"})
    frame.to_csv(tmp_path / "a.csv", index=False)
    pd.concat([frame, pd.DataFrame({"n": ["1,5"], "c": "x"})]).to_csv(tmp_path / "b.csv", index=False)
    assert compare_files(tmp_path / "a.csv", tmp_path / "a.csv").drift.verdict == "no drift"
    for current in ("b.csv", "b.parquet"):
        pd.read_csv(tmp_path / "b.csv", dtype="string").to_parquet(tmp_path / "b.parquet")
        found = compare_files(tmp_path / "a.csv", tmp_path / current).drift
        told = f"no verdict on n: {tmp_path / current} has no number in 1 of {len(frame) + 1:,} rows, e.g. '1,5'"
        assert found.verdict == "no verdict" and told in found.reason


@pytest.fixture
def compared(tmp_path):
    """The verdict on a column of 300 values then and others now, in each pair of forms; all four must be the same."""

    def judged(then, now):
        found = []
        for name, values in (("a", then), ("b", now)):
            table = pd.DataFrame({"value": values, "other": [0.5, 1.5, 2.5] * 100})
            table.to_parquet(tmp_path / f"{name}.parquet")
            table.to_csv(tmp_path / f"{name}.csv", index=False)
        for one in ("parquet", "csv"):
            for other in ("parquet", "csv"):
                drift = compare_files(tmp_path / f"a.{one}", tmp_path / f"b.{other}").drift
                found.append((drift.verdict, [f.feature for f in drift.moved]))
        assert len({str(each) for each in found}) == 1
        return found[0]

    return judged


NUMBERS_OF_ONE = [0.25, 1.0, 7.5] * 100
NOTHING = [None] * 300


@pytest.mark.parametrize(
    ("then", "now", "verdict"),
    [
        pytest.param(NUMBERS_OF_ONE, [np.inf] * 300, "drift", id="infinities"),
        pytest.param(NUMBERS_OF_ONE, [0.25, -np.inf, 7.5] * 100, "drift", id="some-infinities"),
        pytest.param([0.25, np.inf, 7.5] * 100, [np.inf, 0.25, 7.5] * 100, "no drift", id="usual-infinities"),
        pytest.param(NUMBERS_OF_ONE, NOTHING, "drift", id="gone"),
        pytest.param(NOTHING, ["a", "b", "c"] * 100, "drift", id="new-texts"),
        pytest.param(NOTHING, NUMBERS_OF_ONE, "drift", id="new-numbers"),
        pytest.param(NOTHING, NOTHING, "no drift", id="never"),
        pytest.param([0, 1, 1] * 100, ["1", "0", "1"] * 100, "no drift", id="numbers-as-text"),
        pytest.param([0, 1, 1] * 100, [True, False, True] * 100, "no drift", id="truth-for-numbers"),
        pytest.param([False, True, True] * 100, [1, 0, 1] * 100, "no drift", id="numbers-for-truth"),
        pytest.param(["a", "1", "2"] * 100, ["a", "1", "2"] * 100, "no drift", id="codes"),
        pytest.param(["01", "2", "3"] * 100, [2.0, 3.0, 2.0] * 100, "drift", id="codes-that-lost-their-zeros"),
        pytest.param(NUMBERS_OF_ONE, ["a", "b", "c"] * 100, "no verdict", id="words"),
    ],
)
def test_a_column_is_judged_by_its_values_in_each_form(compared, then, now, verdict):
    """Infinities are infinities, what a column without values is the other side says, and numbers may come as texts or truth values."""
    assert compared(then, now) == (verdict, ["value"] if verdict == "drift" else [])


def test_a_day_is_compared_with_days_and_some_hours_are_unproven(tmp_path):
    """Days differ by themselves, so that as many rows of whole weeks would be no measure for one."""
    rng = np.random.default_rng(0)
    level = rng.normal(size=203)
    level[200] = 1.8
    at = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.arange(81_200) * 216, unit="s")
    table = pd.DataFrame({"at": at, "value": level.repeat(400) + rng.normal(size=81_200)})
    table[:80_000].to_parquet(tmp_path / "a.parquet")
    day = table[80_000:80_400]

    def judged(rows):
        rows.to_csv(tmp_path / "b.csv", index=False)
        return compare_files(tmp_path / "a.parquet", tmp_path / "b.csv").drift

    found = judged(day)
    assert found.verdict == "no drift"
    assert found.limits.startswith("against 29 weeks of the reference") and "unproven" not in found.limits
    assert "unproven: a window of less than a day" in judged(day[:210]).limits
    assert judged(day.assign(at=day["at"].dt.date)).limits == found.limits
    assert judged(day.drop(columns="at")).verdict == "drift"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("id;spend\n1;2\n", "has one column, 'id;spend'; separate the values by ','"),
        ("", "is empty"),
        ("id,spend\n1,2,3\n", "a.csv line 2: has 3 values, and the first line has 2 names"),
        ("id,id\n1,2\n", "has the column id twice"),
        ("id,ID\n1,2\n", "a.csv: has the column ID twice, but for its case"),
        ("größe\n1\n", "a.csv line 1: is not utf-8; save it as utf-8"),
    ],
)
def test_a_file_of_another_form_is_one_line(tmp_path, content, told):
    """A file that cannot be read gives one line."""
    (tmp_path / "a.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError) as refused:
        compare_files(tmp_path / "a.csv", tmp_path / "a.csv")
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_folders_and_globs_are_the_rows_of_all_their_files(rows, tmp_path):
    """Whatever the order of their columns; below a folder too."""
    write(rows, tmp_path / "whole.parquet")
    (tmp_path / "days" / "late").mkdir(parents=True)
    write(rows[:1000], tmp_path / "days" / "a.csv")
    write(rows[1000:][rows.columns[::-1]], tmp_path / "days" / "late" / "b.csv")
    whole = compare_files(tmp_path / "whole.parquet", tmp_path / "whole.parquet").drift
    for current in ("days", "days/**/*.csv", "whole.par*"):
        found = compare_files(tmp_path / "whole.parquet", tmp_path / current).drift
        assert (found.rows_now, found.as_dict()) == (3000, whole.as_dict())


@pytest.mark.parametrize(
    ("current", "told"),
    [
        ("empty", "empty: has no Parquet or CSV file; "),
        ("*.tsv", "*.tsv: has no Parquet or CSV file; "),
        ("both", "both: has CSV and other files; "),
        ("unlike", "b.csv: has not the columns of "),
    ],
)
def test_a_folder_that_cannot_be_compared_is_one_line(rows, tmp_path, current, told):
    """Nothing in it, two forms, or other columns."""
    for file in ("reference.csv", "both/a.csv", "both/b.parquet", "unlike/a.csv"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        write(rows, tmp_path / file)
    write(rows.drop(columns="spend"), tmp_path / "unlike" / "b.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as refused:
        compare_files(tmp_path / "reference.csv", tmp_path / current)
    assert told in str(refused.value) and "\n" not in str(refused.value)


def test_a_column_that_is_gone_has_no_verdict_and_is_never_calm(rows, tmp_path):
    """The others are judged; a column that is not compared, as a time, is not missed, and lists are compared as text."""
    table = rows.assign(at=pd.date_range("2024-01-01", periods=len(rows), freq="h"), cells=[[1, 2]] * len(rows))
    table.to_parquet(tmp_path / "a.parquet")
    table.drop(columns=["at", "spend"]).to_parquet(tmp_path / "b.parquet")
    found = compare_files(tmp_path / "a.parquet", tmp_path / "b.parquet").drift
    assert found.verdict == "no verdict"
    assert found.reason.endswith(f"; no verdict on spend: {tmp_path / 'b.parquet'} has no such column")
    table.drop(columns="spend").assign(country="DE").to_parquet(tmp_path / "b.parquet")
    assert compare_files(tmp_path / "a.parquet", tmp_path / "b.parquet").drift.verdict == "drift"


@pytest.mark.parametrize(("column", "what"), [("seen_at", "time"), ("id", "value")])
def test_a_column_that_is_not_compared_and_lost_its_values_is_never_calm(rows, tmp_path, column, what):
    """Nobody compares times and identifiers, but no row has one any more, or one that can be read."""
    rows.to_csv(tmp_path / "a.csv", index=False)
    for cell, none in (("", 3000), ("yesterday", 3000 if what == "time" else 0)):
        rows.assign(**{column: cell}).to_csv(tmp_path / "b.csv", index=False)
        found = compare_files(tmp_path / "a.csv", tmp_path / "b.csv").drift
        told = (
            f"no verdict on {column}: {tmp_path / 'b.csv'} has no {what} in {none:,} of 3,000 rows, the reference in 0%"
        )
        assert (found.verdict, told in found.reason) == (("no verdict", True) if none else ("no drift", False))


def test_a_column_that_is_told_by_folders_alone_is_named_as_not_compared(rows, tmp_path):
    """As Spark and pandas write one; a file that has the column itself lacks nothing."""
    rows.to_parquet(tmp_path / "day", partition_cols=["country"])
    found = compare_files(tmp_path / "day", tmp_path / "day").drift
    assert found.verdict == "no drift" and "country (in the names of folders alone)" in found.reason
    rows.to_parquet(tmp_path / "a.parquet")
    found = compare_files(tmp_path / "a.parquet", tmp_path / "day").drift
    assert found.verdict == "no verdict" and "no verdict on country: " in found.reason


def test_the_page_draws_each_feature_then_and_now(rows, tmp_path):
    """The one that moved first, its shares beside those of the reference; a value that is markup stays text."""
    rows = rows.assign(count=np.arange(len(rows)) % 101)
    write(rows, tmp_path / "a.parquet")
    write(rows.assign(country="<b>DE</b>"), tmp_path / "b.parquet")
    found = compare_files(tmp_path / "a.parquet", tmp_path / "b.parquet")
    page = drift_page(found.drift, Sides(found.reference, found.now, "a", "<b>"))
    assert page.index("country <span") < page.index("spend <span")
    assert page.count('class="picture"') == 5
    assert "<b>DE" not in page and "&lt;b&gt; against a" in page
    assert "0 to 10" in page and "e-324" not in page
    others = page[page.index("all others") :]
    assert "0.0 %" in others and "100.0 %" in others
    assert "Evidently" not in page and "look by look" not in page


def test_the_page_of_a_model_has_its_looks_and_evidently_beside_ours(rows, tmp_path):
    """A bar a look where the feature was looked at, no higher than three times its limit; what Evidently calls drift is said."""
    write(rows, tmp_path / "a.parquet")
    found = compare_files(tmp_path / "a.parquet", tmp_path / "a.parquet")
    looks = [PastLook("1 May", {"spend": 0.3}), PastLook("2 May"), PastLook("3 May", {"spend": 90.0})]
    sides = Sides(found.reference, found.now, "a", "b")
    page = drift_page(found.drift, sides, "spend changed", looks, {"spend": 0.31}, "e.html")
    assert page.count("<rect") == 2 and 'height="3.00"' in page and 'height="30.00"' in page
    assert "1 May to 3 May, look by look" in page and "3 May: 90.00 times its limit" in page
    assert "Spend changed." in page and "Evidently: PSI 0.31, drift" in page and 'href="e.html"' in page


def test_each_measure_has_its_time_line_with_its_limit():
    """In multiples of it; a share counts by its difference, what is 0 in all looks is named, and a look without the figures leaves a gap."""
    quiet = {"psi": 0.1, "psi_limit": 0.2, "missing_before": 0.3, "missing_now": 0.3, "missing_limit": 0.05}
    moved = {**quiet, "psi": 0.7, "missing_now": 0.1, "wasserstein": 3.0, "times_limit": 4.0}
    of = [{"spend": quiet | {"outside": 0.0, "outside_limit": 0.4}}, {}, {"spend": moved}]
    looks = [PastLook(str(day), {"spend": 0.5}, figures) for day, figures in enumerate(of)]
    found = time_lines("spend", looks)
    missing, psi = found["lines"]
    assert (psi["name"], psi["value"], psi["limit"]) == ("PSI", 0.7, 0.2)
    assert [bar["times"] for bar in psi["looks"]] == [0.5, None, pytest.approx(3.5)]
    assert [bar["height"] for bar in psi["looks"]] == [pytest.approx(1 / 6), None, 1.0]
    assert (missing["name"], missing["looks"][2]["times"]) == ("missing", pytest.approx(4.0))
    assert found["flat"] == ["outside of all before"]
    (whole,) = time_lines("spend", [PastLook("1", {"spend": 0.5}), PastLook("2")])["lines"]
    assert (whole["name"], [bar["times"] for bar in whole["looks"]]) == ("", [0.5, None])


def test_a_csv_is_one_in_capitals_too(rows, tmp_path):
    """A folder of exports whose names end in .CSV is read as what it is."""
    (tmp_path / "now").mkdir()
    for name in ("a.csv", "now/B.CSV"):
        rows.to_csv(tmp_path / name, index=False)
    assert compare_files(tmp_path / "a.csv", tmp_path / "now").drift.verdict == "no drift"


def test_a_column_of_any_name_is_compared(rows, tmp_path):
    """Mails are read or unread, and our own names are no reason to leave a column out."""
    names = {"spend": "unread", "code": "perennial_file", "country": "cell"}
    rows.rename(columns=names).to_csv(tmp_path / "a.csv", index=False)
    rows.rename(columns=names).assign(unread=99.0).to_csv(tmp_path / "b.csv", index=False)
    found = compare_files(tmp_path / "a.csv", tmp_path / "b.csv").drift
    assert {"unread", "perennial_file", "cell"} <= {feature.feature for feature in found.features}
    assert [feature.feature for feature in found.moved] == ["unread"]


def test_what_lies_beside_the_data_of_a_folder_is_none_of_it(rows, tmp_path):
    """Hidden files and the folders of table formats are not read; a file whose name begins with an underscore is."""
    write(rows, tmp_path / "a.parquet")
    for name in ("_1.parquet", "part=1/2.parquet"):
        (tmp_path / "now" / name).parent.mkdir(parents=True, exist_ok=True)
        write(rows, tmp_path / "now" / name)
    for name in ("._1.parquet", "_delta_log/10.parquet"):
        (tmp_path / "now" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "now" / name).write_bytes(b"no rows")
    assert compare_files(tmp_path / "a.parquet", tmp_path / "now").drift.rows_now == 2 * len(rows)


@pytest.mark.parametrize(
    ("values", "left_out"),
    [
        (lambda n: np.arange(n) + 7, True),
        (lambda n: 1_700_000_000 - 60 * np.arange(n) // 61, True),
        (lambda n: np.arange(n) // 2, False),
        (lambda n: np.arange(n) / 4, False),
        (lambda n: np.where(np.arange(n) == 9, np.nan, np.arange(n)), False),
        (lambda n: np.random.default_rng(0).permutation(n), False),
    ],
)
def test_a_number_that_goes_on_from_row_to_row_is_no_feature(rows, tmp_path, values, left_out):
    """Of a later table each would be drift: rows are numbered, or have their times in seconds. Measures in order are compared."""
    write(rows.assign(n=values(len(rows))), tmp_path / "a.csv")
    write(rows.assign(n=values(len(rows)) + len(rows)), tmp_path / "b.parquet")
    found = compare_files(tmp_path / "a.csv", tmp_path / "b.parquet").drift
    assert (found.verdict, "n" in [feature.feature for feature in found.features]) == (
        "no drift" if left_out else "drift",
        not left_out,
    )
    assert ("n (a number that goes on from row to row)" in found.reason) == left_out
