"""One new day's file has lost a column: its rows are all there, and the run stops, naming column, day and shares."""

import numpy as np
import pandas as pd
import pytest

from harness.project import change_params, customers
from pipeline.data import contract, snapshot
from pipeline.gates import missing_values
from pipeline.gates.base import ValidatedData
from pipeline.settings.models import load

DAY = "2024-02-24"  # held out: the window ends on 1 March


def verdict(project, frames):
    """What the gate says of a source with a file for each of `frames`, through the stages that come before it."""
    (project / "customers" / "all.parquet").unlink()
    for i, frame in enumerate(frames):
        frame.to_parquet(project / "customers" / f"{i}.parquet")
    model = load(project).model("churn")
    folder, counts = project / "snap", project / "counts.json"
    snapshot.take("churn", model, project, folder, counts, project / "partitions.db")
    report = contract.check("churn", model, folder, counts, project / "quarantine.parquet", project / "report.json")
    return missing_values.verdict(ValidatedData(model, report))


def on(frame, day):
    return frame.seen_at.dt.strftime("%Y-%m-%d") == day


def renamed(column, day=DAY):
    """The customers as two files, one of which is a day whose `column` has another name."""
    frame = customers()
    return frame[~on(frame, day)], frame[on(frame, day)].rename(columns={column: f"{column}_new"})


@pytest.mark.parametrize(("column", "usual"), [("calls", "8%"), ("plan", "0%"), ("left", "0%"), ("decided_at", "0%")])
def test_a_column_renamed_in_one_new_file_is_named(project, column, usual):
    """A column that is missing on one new day fails the gate, with column, day and shares."""
    change_params(project, "models.churn.gates.contract.columns", {})
    result = verdict(project, renamed(column))
    assert not result.passed
    assert f"{column} on {DAY}: 100% of 60 rows lack it, usually at most {usual}" in result.reason


def test_days_as_usual_pass(project):
    """Days whose share of missing values is as in their history pass."""
    assert verdict(project, [customers()]).passed


def test_an_old_day_is_history(project):
    """A gap on a day before the held-out ones counts as history and is not judged."""
    assert verdict(project, renamed("calls", "2024-02-10")).passed


def test_the_limit_can_be_lifted_and_params_without_it_still_load(project):
    """gates.contract.missing_a_day is 0.8 by default, and 1 turns the check off."""
    assert load(project).model("churn").gates.contract.missing_a_day == 0.8
    change_params(project, "models.churn.gates.contract.missing_a_day", 1)
    assert verdict(project, renamed("calls")).passed


def test_a_part_of_the_day_is_measured_against_the_limit(project):
    """A day whose missing share is over missing_a_day fails, even when some rows have a value."""
    frame = customers()
    some = frame.index[on(frame, DAY)][:40]
    frame.loc[some, "calls"] = np.nan
    change_params(project, "models.churn.gates.contract.missing_a_day", 0.5)
    assert f"calls on {DAY}: 67% of 60 rows lack it" in verdict(project, [frame]).reason


def test_a_column_that_is_empty_on_whole_days_by_nature_is_not_judged(project):
    """A column that is empty on whole days of its history is not judged."""
    frame = customers()
    quiet = frame.seen_at.dt.day % 4 == 0
    assert verdict(project, [frame.assign(calls=frame.calls.mask(quiet))]).passed


def test_labels_that_are_still_to_come_are_no_gap_but_those_of_an_older_day_are(project):
    """The newest days may lack labels, and an older day without labels fails."""
    frame = customers()
    frame.loc[frame.seen_at >= pd.Timestamp("2024-02-27", tz="UTC"), ["left", "decided_at"]] = [np.nan, pd.NaT]
    frame.loc[on(frame, DAY), ["left", "decided_at"]] = [np.nan, pd.NaT]
    result = verdict(project, [frame])
    assert f"left and decided_at on {DAY}: 100% of 60 rows" in result.reason
    assert result.observed == 1


def test_without_a_label_time_labels_come_when_they_come(project):
    """Without source.label_time the newest days may lack labels, and an older day without labels fails."""
    change_params(project, "models.churn.source.label_time", None)
    frame = customers()
    frame.loc[frame.seen_at >= pd.Timestamp("2024-02-27", tz="UTC"), "left"] = np.nan
    frame.loc[on(frame, DAY), "left"] = np.nan
    result = verdict(project, [frame])
    assert f"left on {DAY}: 100% of 60 rows" in result.reason
    assert result.observed == 1


def test_a_history_that_is_too_short_says_nothing(project):
    """A history of less than a week gives no verdict."""
    frame = customers()
    young = frame[frame.seen_at >= pd.Timestamp("2024-02-19", tz="UTC")]
    assert verdict(project, [young.assign(calls=young.calls.mask(on(young, DAY)))]).passed
