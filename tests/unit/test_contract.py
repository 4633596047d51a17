"""Rows that break the contract go to quarantine with the reason; in = kept + quarantined."""

import json

import numpy as np
import pandas as pd
import pytest

from harness.project import change_params, customers
from pipeline.data import contract, day_history
from pipeline.errors import DataError
from pipeline.gates import data_contract, rows_a_day
from pipeline.gates.base import ValidatedData
from pipeline.settings.models import load


def check(project, settings, frame, rows_a_day=None, model=None):
    folder = project / "snap"
    folder.mkdir()
    frame.to_parquet(folder / "2024-01-01.parquet")
    counts, quarantine, written = (project / n for n in ("counts.json", "quarantine.parquet", "report.json"))
    counts.write_text(json.dumps({"rows_a_day": rows_a_day or {}, "missing_a_day": {}}))
    report = contract.check("churn", model or settings.model("churn"), folder, counts, quarantine, written)
    return report, contract.kept_rows(folder, quarantine), pd.read_parquet(quarantine)


def test_good_rows_are_all_kept(project, settings):
    """Rows that fit the contract are all kept."""
    report, kept, quarantine = check(project, settings, customers(10))
    assert (report["kept"], report["quarantined"], report["faults"]) == (600, 0, [])
    assert len(kept) == 600
    assert quarantine.empty


@pytest.mark.parametrize(
    ("column", "value", "check_name"),
    [
        ("spend", -5.0, "greater_than_or_equal_to"),
        ("spend", 5000.0, "less_than_or_equal_to"),
        ("spend", np.nan, "not_nullable"),
        ("spend", np.inf, "finite"),
        ("calls", -np.inf, "finite"),
        ("plan", "gold", "isin"),
    ],
)
def test_each_kind_of_fault_is_found_and_named(project, settings, column, value, check_name):
    """Each kind of fault quarantines its row and names column and check."""
    frame = customers(10)
    frame.loc[5, column] = value
    report, kept, quarantine = check(project, settings, frame)
    assert report["in"] == report["kept"] + report["quarantined"] == 600
    assert report["quarantined"] == 1 == len(quarantine)
    assert len(kept) == 599
    a_day = report["quarantined_a_day"]
    assert (a_day["2024-01-01"], a_day["2024-01-02"], len(a_day)) == ((1, 60), (0, 60), 10)
    assert any(f["column"] == column and check_name in f["check"] for f in report["faults"])
    assert column in quarantine.reason.iloc[0]


def test_a_row_with_two_faults_counts_once(project, settings):
    """A row with two faults is quarantined once, with both reasons."""
    frame = customers(10)
    frame.loc[5, ["spend", "plan"]] = [-1.0, "gold"]
    report, _, quarantine = check(project, settings, frame)
    assert report["quarantined"] == 1
    assert "spend" in quarantine.reason.iloc[0]
    assert "plan" in quarantine.reason.iloc[0]


def test_nothing_left_to_train_on_is_an_error_that_names_the_column(project, settings):
    """A contract that quarantines all rows is an error that names the column."""
    with pytest.raises(DataError, match="all 600 rows break it .*plan"):
        check(project, settings, customers(10).assign(plan="gold"))


def test_a_partition_that_came_twice_is_quarantined_once(project, settings):
    """Of rows that came twice the first stays and the second is quarantined."""
    frame = customers(10)
    report, kept, quarantine = check(project, settings, pd.concat([frame, frame.tail(60)], ignore_index=True))
    assert (report["in"], report["kept"], report["quarantined"]) == (660, 600, 60)
    assert kept.customer.is_unique
    assert set(quarantine.customer) == set(frame.tail(60).customer)
    verdict = data_contract.verdict(ValidatedData(settings.model("churn"), report))
    assert not verdict.passed
    assert "customer unique_with_its_time: 60 rows, e.g. c0005" in verdict.reason


def test_a_key_that_comes_again_at_another_time_is_kept(project, settings):
    """A customer who is scored every third day has as many rows; only the same row twice breaks the contract."""
    frame = customers(10)
    frame["customer"] = [f"c{i % 60}" for i in range(len(frame))]
    report, kept, _ = check(project, settings, frame)
    assert (report["quarantined"], len(kept)) == (0, 600)


def test_a_whole_number_that_is_none_breaks_an_integer_column(project):
    """A fraction in an integer column is quarantined."""
    change_params(project, "models.churn.gates.contract.columns.calls", {"type": "integer", "nullable": True})
    frame = customers(10)
    frame.loc[5, "calls"] = 2.5
    report, _, quarantine = check(project, load(project), frame)
    assert report["quarantined"] == 1
    assert quarantine.reason.tolist() == ["calls: integer"]


@pytest.mark.parametrize(
    ("rule", "value", "kept"),
    [
        ({"max": 0.1}, np.float32(0.1), True),
        ({"min": 0.7}, np.float32(0.7), True),
        ({"allowed": [0.1, 0.7]}, np.float32(0.7), True),
        ({"max": 0.1}, 0.1000001, False),
        ({"allowed": [0.1, 0.7]}, 0.7000001, False),
        ({"allowed": [16_777_217]}, 16_777_216, False),
    ],
)
def test_a_float32_keeps_the_rule_that_its_short_text_keeps(project, rule, value, kept):
    """A FLOAT 0.1 keeps max: 0.1 at training, as it does in a request; a double that is above it does not."""
    change_params(project, "models.churn.gates.contract.columns.spend", rule)
    change_params(project, "models.churn.gates.contract.columns.calls", {"nullable": True})
    frame = customers(10).assign(spend=float((rule.get("allowed") or list(rule.values()))[0]))
    frame.loc[5, "spend"] = float(value)
    assert check(project, load(project), frame)[0]["quarantined"] == (0 if kept else 1)


def test_a_rule_for_the_key_counts_too(project):
    """A rule for the key column is checked like that of a feature."""
    change_params(project, "models.churn.gates.contract.columns.customer", {"allowed": ["c000001"]})
    report, kept, _ = check(project, load(project), customers(10))
    assert (report["kept"], kept.customer.tolist()) == (1, ["c000001"])


@pytest.mark.parametrize(("day", "rows"), [("2024-02-25", 3), ("2024-02-26", 0), ("2024-02-27", 900)])
def test_a_day_out_of_proportion_to_history_is_named(project, day, rows):
    """A held-out day with too few, no or too many rows is named."""
    change_params(project, "models.churn.gates.contract.rows_a_day", [0.5, 2])
    model = load(project).model("churn")
    days = {f"{d:%Y-%m-%d}": 60 for d in pd.date_range("2024-01-31", "2024-02-29")}
    usual = day_history.unusual_days(days, model)
    assert usual == {"history": 23, "median": 60.0, "off": {}}
    days_report = day_history.unusual_days(
        days | {day: rows} if rows else {d: n for d, n in days.items() if d != day}, model
    )
    assert days_report["off"] == {day: rows}
    verdict = rows_a_day.verdict(ValidatedData(model, {"days": days_report}))
    assert not verdict.passed
    assert f"{day}: {rows}" in verdict.reason


def test_an_old_unusual_day_is_history_and_not_judged(project):
    """A day before the held-out ones counts as history and is not judged."""
    change_params(project, "models.churn.gates.contract.rows_a_day", [0.5, 2])
    days = {f"{d:%Y-%m-%d}": 60 for d in pd.date_range("2024-01-31", "2024-02-29")} | {"2024-02-05": 0}
    assert day_history.unusual_days(days, load(project).model("churn"))["off"] == {}


@pytest.mark.parametrize(("first", "median"), [("2024-02-10", 60.0), ("2024-02-15", 60.0), ("2024-02-17", None)])
def test_history_begins_where_the_data_does(project, first, median):
    """Days before the first data are no outage, and less than a week of history gives no verdict."""
    change_params(project, "models.churn.gates.contract.rows_a_day", [0.5, 2])
    model = load(project).model("churn")
    days_report = day_history.unusual_days({f"{d:%Y-%m-%d}": 60 for d in pd.date_range(first, "2024-02-29")}, model)
    assert (days_report["median"], days_report["off"]) == (median, {})
    verdict = rows_a_day.verdict(ValidatedData(model, {"days": days_report}))
    assert verdict.passed
    assert ("6 days of data before the held-out ones, 7 required" in verdict.reason) == (median is None)


@pytest.mark.parametrize("rule", [None, {"nullable": True}, {"type": "integer", "min": 0}])
def test_a_label_that_is_not_0_or_1_is_quarantined(project, rule):
    """A label of a binary model other than 0 and 1 is quarantined, also where the target has a rule about something else."""
    if rule:
        change_params(project, "models.churn.gates.contract.columns.left", rule)
    settings = load(project)
    frame = customers(10)
    frame.loc[5, "left"] = 2.0
    report, _, quarantine = check(project, settings, frame)
    assert (report["kept"], report["quarantined"]) == (599, 1)
    assert quarantine.reason.tolist() == ["left: isin([0, 1])"]


@pytest.mark.parametrize(
    ("allowed", "values"), [([1, 2], ["1", "2"]), ([True, False], ["true", "false"]), ([1.5], ["1.5", "1.5"])]
)
def test_allowed_values_of_a_text_column_are_compared_as_text(project, allowed, values):
    """Allowed values of a text column are compared as text, also numbers and booleans."""
    change_params(project, "models.churn.gates.contract.columns.plan", {"allowed": allowed})
    frame = customers(10)
    report, _, _ = check(project, load(project), frame.assign(plan=np.resize(values, len(frame))))
    assert (report["quarantined"], report["faults"]) == (0, [])
