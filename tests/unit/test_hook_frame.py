"""A hook's frame keeps each value, whatever a sample of its columns shows."""

from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import duckdb
import numpy as np
import pandas as pd
import pytest

from pipeline.data.hook_frame import write_rows
from pipeline.data.user_code import hook_function
from pipeline.errors import DataError, SettingsError


def rows_of(cells, **others):
    """(DuckDB type of the column of Python objects, its values as DuckDB has them)."""
    frame = pd.DataFrame({"a": pd.Series(cells, dtype=object), **others})
    with duckdb.connect() as connection:
        write_rows(connection, frame, "my:rows")
        answer = connection.execute("SELECT a FROM rows")
        return str(answer.description[0][1]), [value for (value,) in answer.fetchall()]


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["a", None, "040"], "VARCHAR", ["a", None, "040"]),
        ([1, "040", 2.0, "x"], "VARCHAR", ["1", "040", "2", "x"]),
        ([1, 0.37, None], "VARCHAR", ["1", "0.37", None]),
        ([True, "x", 2], "VARCHAR", ["true", "x", "2"]),
        ([True, 2, 0.5], "VARCHAR", ["1", "2", "0.5"]),
        ([True, None], "BOOLEAN", [True, None]),
        ([1, None, float("nan"), pd.NA], "BIGINT", [1, None, None, None]),
        ([2**70, 1], "VARCHAR", ["1180591620717411303424", "1"]),
        ([np.int64(1), np.float64(0.5)], "VARCHAR", ["1", "0.5"]),
        ([1e20, Decimal("2.50"), 1e-7], "VARCHAR", ["100000000000000000000", "2.5", "0.0000001"]),
        ([date(2024, 1, 1), None], "DATE", [date(2024, 1, 1), None]),
        ([datetime(2024, 1, 1, 5), pd.NaT], "TIMESTAMP", [datetime(2024, 1, 1, 5), None]),
        ([UUID(int=1)], "VARCHAR", ["00000000-0000-0000-0000-000000000001"]),
        ([None, None], "VARCHAR", [None, None]),
    ],
)
def test_objects_become_what_they_are(cells, kind, values):
    """A column of one type keeps it, and one that mixes text and numbers is text, with one text for one value."""
    assert rows_of(cells) == (kind, values)
    assert rows_of(cells, b=range(len(cells))) == (kind, values)


def test_a_late_cell_of_another_type_is_not_lost():
    """One decimal and one code among 100,000 whole numbers stay, wherever DuckDB's sample looks."""
    cells = [7] * 100_000
    cells[12_345], cells[77_777] = 0.37, "040"
    _, values = rows_of(cells)
    assert (values[12_345], values[77_777], values.count("7")) == ("0.37", "040", 99_998)


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ([date(2024, 1, 1), datetime(2024, 1, 1, 5)], "date and datetime in column a"),
        ([datetime(2024, 1, 1), "2024-01-02"], "datetime and str in column a"),
        ([datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC)], "datetime in column a"),
        ([b"x", "y"], "bytes and str in column a"),
        ([object()], "object in column a"),
    ],
)
def test_a_mixture_without_a_meaning_is_refused(cells, told):
    """Times beside texts, or times with and without a zone, are refused with hook and column."""
    with pytest.raises(DataError, match=f"hook my:rows: returned {told}; return cells of one type in it"):
        rows_of(cells)


def test_a_column_that_is_there_twice_is_refused():
    """Two columns of one name are refused by name."""
    frame = pd.DataFrame([[1, 2]], columns=["a", "a"])
    with duckdb.connect() as connection, pytest.raises(DataError, match="returned the column a twice"):
        write_rows(connection, frame, "my:rows")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def rows(start, end:\n", "raised SyntaxError when it was imported"),
        ("1 / 0\n", "raised ZeroDivisionError when it was imported: division by zero"),
        ("import nothing_there\n", "No module named 'nothing_there'"),
        ("", "has no attribute 'rows'"),
    ],
)
def test_a_hook_that_cannot_be_imported_is_one_line(tmp_path, monkeypatch, code, told):
    """A file with any fault is refused with the key that names it, and never ends in a traceback."""
    name = f"hook_{abs(hash(code))}"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SettingsError) as refused:
        hook_function(f"{name}:rows", "models.churn.source.hook")
    line = str(refused.value)
    assert line.startswith(f"models.churn.source.hook {name}:rows: ") and told in line and "\n" not in line
