"""The schema that a snapshot draws from its rows, whatever types the files of its source give their columns."""

import json

import pandas as pd
import pytest

from harness.project import CHURN, change_params, customers
from pipeline.data import contract, snapshot
from pipeline.data.contract import read_snapshot
from pipeline.errors import DataError
from pipeline.serving.schema import Schema
from pipeline.settings.models import load


def with_category(project, values, name="plan"):
    """The project's customers with another column as its only category, and no rule for it."""
    frame = customers()
    frame[name] = [values[i % len(values)] for i in range(len(frame))]
    for file in (project / "customers").iterdir():
        file.unlink()
    frame.to_parquet(project / "customers" / "all.parquet")
    change_params(project, "models.churn.training.categorical", [name])
    rules = {k: v for k, v in CHURN["gates"]["contract"]["columns"].items() if k != "plan"}
    change_params(project, "models.churn.gates.contract.columns", rules)
    return frame


def take(project, name="one"):
    model, folder = load(project).model("churn"), project / name
    snapshot.take("churn", model, project, folder, project / f"{name}.json", project / "partitions.db")
    return folder


def partitions(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def test_a_file_that_turns_integers_into_doubles_changes_no_cell(project):
    """A category of whole numbers is the same in each file and to the schema, when another day's file has a missing value in it."""
    frame = with_category(project, [1, 2, 3])
    whole = take(project)
    for file in (project / "customers").iterdir():
        file.unlink()
    days = frame["seen_at"].dt.strftime("%Y-%m-%d")
    for day, rows in frame.groupby(days):
        if day == "2024-02-20":
            # What pandas makes of integers with a missing value: DOUBLE, for all files of the glob.
            rows = rows.assign(plan=rows["plan"].astype("float64").where(rows.index != rows.index[7]))
        rows.to_parquet(project / "customers" / f"{day}.parquet")
    mixed = take(project, "two")
    before, after = partitions(whole), partitions(mixed)
    assert [name for name in before if before[name] != after[name]] == ["2024-02-20.parquet"]
    assert Schema.of_snapshot(mixed) == Schema.of_snapshot(whole)
    assert Schema.of_snapshot(mixed)["plan"].spelling == "number"
    assert set(read_snapshot(mixed)["plan"].dropna()) == {"1", "2", "3"}


@pytest.mark.parametrize("later", [[1.5, None], ["gold", "2"], [None, None]])
def test_a_file_of_the_future_changes_no_earlier_as_of(project, later):
    """A file that comes later, with doubles, texts or nothing in a column of whole numbers, leaves an earlier snapshot as it was."""
    with_category(project, [1, 2, 3])
    before = take(project)
    rows = customers(80).tail(120)
    rows["plan"] = [later[i % 2] for i in range(len(rows))]
    rows.to_parquet(project / "customers" / "later.parquet")
    after = take(project, "two")
    assert partitions(after) == partitions(before)
    assert Schema.of_snapshot(after) == Schema.of_snapshot(before)


@pytest.mark.parametrize(
    ("values", "spelling"),
    [
        ([True, False], "truth"),
        (["True", "False"], "truth"),
        (["yes", "no"], "truth"),
        (["NO", "SE"], "text"),
        (["NO"], "text"),
        (["1", "2.0"], "number"),
        ([0.5, 1.0], "number"),
        (["01067", "10115"], "text"),
        (["1.10", "1.2"], "text"),
        (["12e5", "3"], "text"),
    ],
)
def test_the_spelling_follows_the_values_of_the_window(project, values, spelling):
    """All numbers, all booleans or text: what is one value follows the values, not the type that a file gives their column."""
    with_category(project, values)
    assert Schema.of_snapshot(take(project))["plan"].spelling == spelling


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([None], "plan has a value in no row; check the source, or take it out of models.churn.training.categorical"),
        (
            [f"name {i}" for i in range(4500)],
            "nothing can be learnt from it; it is an identifier: take it out",
        ),
        (
            [f"we called {i} times" for i in range(4500)],
            "it is free text: list it in models.churn.training.text",
        ),
        ([f"{i},5" for i in range(4500)], "it is a number with a decimal comma"),
        (
            [str(pd.Timestamp("2024-01-01") + pd.Timedelta(minutes=i)) for i in range(4500)],
            "it is a time: list it in models.churn.training.datetime",
        ),
        ([float(2**53 + 2 * i) for i in range(9)], "rows are too large for it: their last digits are lost"),
        (
            [pd.Timestamp("2024-01-01", tz="UTC")],
            "column plan holds TIMESTAMP WITH TIME ZONE, not one text; .*list it in .*datetime",
        ),
        ([[1, 2]], r"column plan holds BIGINT\[\], not one text"),
    ],
)
def test_a_column_that_is_no_category_is_refused_with_advice(project, values, message):
    """A column without a value, with another one in each row, or without one text is refused by name, with what to do about it."""
    with_category(project, values)
    with pytest.raises(DataError, match=message):
        take(project)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["0,37", "1,5"], r"it is a number with a decimal comma: write replace\(column, ',', '.'\)::DOUBLE in"),
        (["1.000,5", "-12.345,0"], "its numbers seem to have marks between the thousands: leave them out"),
        (["1,234", "12,345"], "its numbers seem to have marks between the thousands: leave them out"),
        (["on", "off"], "cast it in models.churn.source.query, or list it in models.churn.training.categorical"),
    ],
)
def test_a_column_that_is_no_number_is_refused_with_advice(project, values, message):
    """A column under numeric whose numbers are written in another way is not sent to the categories."""
    rows = customers()
    rows["spend"] = [values[i % len(values)] for i in range(len(rows))]
    rows.to_parquet(project / "customers" / "all.parquet")
    with pytest.raises(DataError, match=f"spend is no number in .*; {message}"):
        take(project)


def test_the_target_is_never_sent_to_a_list_of_features(project):
    """A target of words is told to be a number."""
    customers().assign(left=lambda rows: ["gone", "here"] * (len(rows) // 2)).to_parquet("customers/all.parquet")
    with pytest.raises(DataError, match="cast it in models.churn.source.query: the target is a number"):
        take(project)


def test_the_type_in_the_contract_pins_a_spelling(project):
    """`type: text` keeps numbers as they are written, `type: boolean` reads 1 and 0 as true and false."""
    with_category(project, ["1", "0"])
    for pinned, spelling, values in (("text", "text", {"1", "0"}), ("boolean", "truth", {"true", "false"})):
        change_params(project, "models.churn.gates.contract.columns.plan", {"type": pinned})
        folder = take(project, pinned)
        assert Schema.of_snapshot(folder)["plan"].spelling == spelling
        assert set(read_snapshot(folder)["plan"]) == values


def test_allowed_numbers_are_categories_as_the_rows_spell_them(project):
    """`allowed: [1, 2]` on a category of doubles keeps 1 and 2, and puts 3 into quarantine."""
    with_category(project, [1.0, 2.0, 3.0])
    change_params(project, "models.churn.gates.contract.columns.plan", {"allowed": [1, 2]})
    folder = take(project)
    report = contract.check(
        "churn", load(project).model("churn"), folder, project / "one.json", project / "q.parquet", project / "r.json"
    )
    assert report["kept"] == pytest.approx(report["in"] * 2 / 3, abs=2)
    assert report["faults"][0]["examples"] == ["3", "3", "3"]


def test_a_boolean_among_the_numbers_is_a_boolean(project):
    """A BOOLEAN that is listed under numeric is one to the schema too, so that a client may send true."""
    frame = customers()
    frame["paid"] = [i % 2 == 0 for i in range(len(frame))]
    for file in (project / "customers").iterdir():
        file.unlink()
    frame.to_parquet(project / "customers" / "all.parquet")
    change_params(project, "models.churn.training.numeric", ["spend", "calls", "paid"])
    folder = take(project)
    assert Schema.of_snapshot(folder)["paid"].kind == "boolean"
    assert set(read_snapshot(folder)["paid"]) == {0.0, 1.0}


def test_the_key_may_be_the_event_time(project):
    """A source whose rows are known by their time alone has a snapshot and a contract like any other."""
    change_params(project, "models.churn.source.key", "seen_at")
    folder = take(project)
    report = contract.check(
        "churn", load(project).model("churn"), folder, project / "one.json", project / "q.parquet", project / "r.json"
    )
    assert report["kept"] == report["in"] > 1000
    assert json.loads((folder / "schema.json").read_text())["key"] == "seen_at"
