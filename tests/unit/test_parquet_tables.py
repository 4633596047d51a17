"""Parquet files are compared by what their cells mean, whoever wrote them."""

from decimal import Decimal

import duckdb
import numpy as np
import pandas as pd
import pytest

from pipeline.errors import DataError
from pipeline.monitoring import parquet_tables
from pipeline.monitoring.profiles.file_columns import FileColumns


@pytest.fixture
def rows():
    """Half a year of days, a text for each, and an amount."""
    days = pd.date_range("2024-01-01", periods=180)
    return pd.DataFrame({"day": days, "amount": np.arange(180) / 4, "plan": ["a", None, "2024-01-01"] * 60})


@pytest.fixture(params=["whole", "by columns"])
def size(request, monkeypatch):
    """Small tables are read whole, large ones a column at a time."""
    if request.param == "by columns":
        monkeypatch.setattr(parquet_tables, "MOST_CELLS", 0)
    return request.param


@pytest.mark.parametrize(
    "spelt",
    [
        lambda days: days.dt.date,
        lambda days: days.dt.strftime("%Y-%m-%d"),
        lambda days: days.dt.tz_localize("UTC").map(str),
        lambda days: days.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"),
    ],
)
def test_dates_and_texts_of_times_are_times(rows, tmp_path, size, spelt):
    """As pandas, DuckDB and Spark write them, in files of one folder that do not agree; a text among which some are none is a text."""
    rows.assign(day=spelt(rows["day"])).to_parquet(tmp_path / "1.parquet")
    rows.set_index("day").to_parquet(tmp_path / "2.parquet")
    table = parquet_tables.table_of([tmp_path / "1.parquet", tmp_path / "2.parquet"])
    assert isinstance(table, FileColumns) == (size == "by columns")
    assert table["day"].tolist() == rows["day"].dt.tz_localize("UTC").tolist() * 2
    assert table["plan"].dropna().tolist() == ["a", "2024-01-01"] * 120


def test_decimals_are_numbers(rows, tmp_path, size):
    """A database's amounts have a column of numbers, and a missing one is none of them."""
    amounts = [None, *(Decimal(f"{amount:.2f}") for amount in rows["amount"][1:])]
    rows.assign(amount=amounts).to_parquet(tmp_path / "1.parquet")
    found = parquet_tables.table_of([tmp_path / "1.parquet"])["amount"]
    assert found.dtype == "float64" and found.isna().tolist() == [True] + [False] * 179
    assert found[1:].tolist() == rows["amount"][1:].tolist()


def test_names_that_are_numbers_and_bytes_that_are_no_text_are_read(tmp_path, size):
    """As a column's name pandas takes anything, and a checksum is compared as what it is."""
    table = pd.DataFrame({0: [0.5, 1.5], 1: [1, 2], "sum": [b"\xff", b"ab"]})
    table.to_parquet(tmp_path / "1.parquet")
    found = parquet_tables.table_of([tmp_path / "1.parquet"])
    assert list(found.columns) == ["0", "1", "sum"] and found["0"].tolist() == [0.5, 1.5]
    assert found["sum"].tolist() == ["\\xff", "ab"]


def test_other_names_of_files_are_told_what_a_csv_is_called(tmp_path):
    """A text of tabs is no Parquet, and the line says how a CSV would be known."""
    (tmp_path / "a.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(DataError, match=r"a\.tsv: cannot be read as Parquet .*; the name of a CSV file ends in \.csv"):
        parquet_tables.table_of([tmp_path / "a.tsv"])


def test_the_texts_of_all_files_are_looked_at_in_one_database(tmp_path, monkeypatch, size):
    """To open one takes ten times as long as to ask whether a text is a time."""
    table = pd.DataFrame({name: ["a", "2024-01-02"] for name in ("plan", "note", "shop")})
    files = [tmp_path / name for name in ("1.parquet", "2.parquet")]
    for file in files:
        table.to_parquet(file)
    opened, connect = [], duckdb.connect
    monkeypatch.setattr(duckdb, "connect", lambda: opened.append(1) or connect())
    found = parquet_tables.table_of(files)
    assert len(opened) == 1
    assert found["plan"].tolist() == ["a", "2024-01-02"] * 2
