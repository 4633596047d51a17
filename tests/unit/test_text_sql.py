"""A text cell becomes a number or a time by one table of spellings, and never by DuckDB's guess."""

import duckdb
import pytest

from pipeline.data import text_sql
from pipeline.serving.csv_form import columns
from tests.support.spellings import MISSING, NUMBERS, TIMES, TRUTHS, UNREADABLE


@pytest.fixture(scope="module")
def duck():
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def read(duck, value, text):
    """(value, whether it is unreadable) of the SQL expression `value` for the stripped `text`."""
    cell = f"(SELECT {text_sql.stripped('$text')} AS cell)"
    return duck.execute(f"SELECT {value}, {text_sql.unreadable('cell', value)} FROM {cell}", {"text": text}).fetchone()


@pytest.mark.parametrize(("text", "expected"), NUMBERS)
def test_a_number_is_what_the_table_says(duck, text, expected):
    """Each spelling is its number, missing, or unreadable."""
    value, unreadable = read(duck, text_sql.number("cell"), text)
    assert unreadable == (expected == UNREADABLE)
    assert value == (None if unreadable else expected)
    assert str(value) != "-0.0"


@pytest.mark.parametrize(("text", "expected"), [(t, e) for t, e in NUMBERS if "1e400" not in t and len(t) < 400])
def test_the_endpoint_reads_the_same_numbers(text, expected):
    """A cell of a request's CSV means what a cell of the source's CSV means."""
    quoted = '"' + text.replace('"', '""') + '"'
    (value,) = columns(f"n,k\n{quoted},1\n", ["n"], 2, 2)["n"]
    assert isinstance(value, str) if expected == UNREADABLE else value == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0,37", 0.37),
        (",5", 0.5),
        ("5,", 5.0),
        ("1e3", 1000.0),
        ("0.37", UNREADABLE),
        ("1.234,5", UNREADABLE),
        ("NA", MISSING),
    ],
)
def test_a_decimal_comma_is_the_only_point(duck, text, expected):
    """With the comma as decimal, a point is a thousands separator to some, so that such a cell is unreadable."""
    value, unreadable = read(duck, text_sql.number("cell", ","), text)
    assert (value, unreadable) == ((None, True) if expected == UNREADABLE else (expected, False))


@pytest.mark.parametrize(("text", "expected"), TIMES)
def test_a_time_is_what_the_table_says(duck, text, expected):
    """Each spelling is its instant, missing, or unreadable."""
    value, unreadable = read(duck, text_sql.time("cell"), text)
    assert unreadable == (expected == UNREADABLE)
    assert value == (None if unreadable else expected)


@pytest.mark.parametrize(("text", "expected"), TRUTHS)
def test_a_truth_value_is_what_the_table_says(duck, text, expected):
    """Each spelling is true or false, missing, or unreadable."""
    value, unreadable = read(duck, text_sql.truth("cell"), text)
    assert unreadable == (expected == UNREADABLE)
    assert value is (None if unreadable else expected)
