"""Rows that break the contract go to quarantine with the reason; in = kept + quarantined."""

import numpy as np
import pandas as pd
import pytest

from pipeline.data import contract
from pipeline.errors import DataError
from tests.conftest import customers


def check(project, settings, frame):
    folder = project / "snap"
    folder.mkdir()
    frame.to_parquet(folder / "2024-01-01.parquet")
    paths = [project / n for n in ("kept.parquet", "quarantine.parquet", "report.json")]
    told = contract.check("churn", settings.model("churn"), folder, *paths)
    return told, pd.read_parquet(paths[0]), pd.read_parquet(paths[1])


def test_good_rows_are_all_kept(project, settings):
    told, kept, quarantine = check(project, settings, customers(10))
    assert (told["kept"], told["quarantined"], told["faults"]) == (600, 0, [])
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
        ("customer", "c000000", "field_uniqueness"),
    ],
)
def test_each_kind_of_fault_is_found_and_named(project, settings, column, value, check_name):
    frame = customers(10)
    frame.loc[5, column] = value
    told, kept, quarantine = check(project, settings, frame)
    assert told["in"] == told["kept"] + told["quarantined"] == 600
    assert told["quarantined"] == 1 == len(quarantine)
    assert len(kept) == 599
    assert any(f["column"] == column and check_name in f["check"] for f in told["faults"])
    assert column in quarantine.reason.iloc[0]


def test_a_row_with_two_faults_counts_once(project, settings):
    frame = customers(10)
    frame.loc[5, ["spend", "plan"]] = [-1.0, "gold"]
    told, _, quarantine = check(project, settings, frame)
    assert told["quarantined"] == 1
    assert "spend" in quarantine.reason.iloc[0]
    assert "plan" in quarantine.reason.iloc[0]


def test_nothing_left_to_train_on_is_an_error_that_names_the_column(project, settings):
    with pytest.raises(DataError, match="all 600 rows break it .*plan"):
        check(project, settings, customers(10).assign(plan="gold"))
