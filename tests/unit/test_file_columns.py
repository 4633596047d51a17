"""A table in Parquet files is counted a column at a time, and gives what the table in memory gives."""

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import DataError
from pipeline.monitoring.file_drift import compare_files
from pipeline.monitoring.profiles.file_columns import FileColumns, names_of
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.monitoring.profiles.reference import reference_of


@pytest.fixture
def table():
    random = np.random.default_rng(3)
    at = pd.Series(pd.date_range("2024-01-01", periods=900, freq="7h", tz="UTC"))
    at[5] = pd.NaT
    low = random.normal(size=900)
    numbers = {"low": low, "high": low + 1 + random.random(900) / 9, "few": random.integers(0, 3, 900)}
    return pd.DataFrame({**numbers, "plan": random.choice(["a", "b", None], 900), "at": at})


def test_the_reference_and_the_profile_are_those_of_the_table_in_memory(table, tmp_path):
    """Of several files too, with slices, and with rows that have no time."""
    for number, part in enumerate((table[:400], table[400:])):
        part.to_parquet(tmp_path / f"{number}.parquet")
    columns = FileColumns(sorted(tmp_path.glob("*.parquet")))
    assert (columns.columns, len(columns), columns.empty) == (list(table.columns), 900, False)
    given = ["low", "high", "few"], ["plan"]
    for times in (table["at"], None):
        kept = reference_of(columns, *given, times, ["plan"])
        assert kept.as_text() == reference_of(table, *given, times, ["plan"]).as_text()
    found, expected = (profile_of(of, kept.layout) for of in (columns, table))
    assert found.rows == expected.rows and all((found.cells[c] == expected.cells[c]).all() for c in expected.cells)


def test_some_of_the_rows_are_spread_over_all_of_them(table, tmp_path):
    """Each as far from the next; a table with fewer rows is there whole."""
    table.to_parquet(tmp_path / "a.parquet")
    columns = FileColumns([tmp_path / "a.parquet"])
    assert columns.some(["low"], 9)["low"].tolist() == table["low"][::100].tolist()
    assert columns.some(["low", "plan"], 5_000).equals(table[["low", "plan"]])


def test_the_names_are_those_of_the_table(table, tmp_path):
    """An index is a column where it has a name, as in a CSV."""
    table.set_index("few").to_parquet(tmp_path / "a.parquet")
    table.iloc[::2].to_parquet(tmp_path / "b.parquet")
    columns = FileColumns([tmp_path / "a.parquet"])
    assert columns.columns == ["low", "high", "plan", "at", "few"] and columns["few"].equals(table["few"])
    assert names_of(tmp_path / "b.parquet") == list(table.columns)


def test_a_file_that_ends_too_early_is_refused_whole(table, tmp_path):
    """Before anything is compared, with the file's name; lists in one of several files are compared as text."""
    table.to_parquet(tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[:-1_000])
    with pytest.raises(DataError, match=r"b\.parquet: cannot be read as Parquet"):
        compare_files(tmp_path / "a.parquet", tmp_path / "b.parquet")
    lists = table.assign(tags=[[f"t{i % 3}"] for i in range(900)])
    (tmp_path / "lists").mkdir()
    lists.to_parquet(tmp_path / "lists" / "1.parquet")
    lists.assign(tags=None).to_parquet(tmp_path / "lists" / "2.parquet")
    verdict = compare_files(tmp_path / "lists", tmp_path / "lists").drift
    assert verdict.verdict == "no drift" and "tags" in [feature.feature for feature in verdict.features]
