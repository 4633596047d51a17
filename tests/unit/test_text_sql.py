"""A text cell becomes a number or a time by one table of spellings, and never by DuckDB's guess."""

import json
import math
import random
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from zoneinfo import ZoneInfo

import duckdb
import pytest

from pipeline.data import neutral_sql, source_times, text_sql
from pipeline.serving.schema import spelling, times
from pipeline.settings.source import Source
from tests.support.spellings import KEYS, MISSING, NUMBERS, TIMES, TRUTHS, UNREADABLE


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


@pytest.mark.parametrize(
    ("read_cell", "text", "expected"),
    [
        *((spelling.number, text, value) for text, value in NUMBERS),
        *((spelling.truth, text, value) for text, value in TRUTHS),
        *((times.instant, text, value) for text, value in TIMES),
    ],
)
def test_the_schema_reads_the_same_values(read_cell, text, expected):
    """A cell of a request means what a cell of the source's CSV means."""
    if expected == UNREADABLE:
        with pytest.raises(spelling.Unreadable):
            read_cell(text)
    else:
        assert read_cell(text) == expected


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


@pytest.mark.parametrize("row", KEYS, ids=lambda row: row["cell"])
def test_a_key_of_the_source_is_that_of_requests_and_of_the_router(duck, row):
    """The table of spellings that the router's own test reads: the snapshot and the labels have the same key for each."""
    cell = json.loads(row["cell"])
    kind = {str: "VARCHAR", int: "HUGEINT", float: "DOUBLE"}.get(type(cell), "VARCHAR")
    found = duck.execute(
        f"SELECT {neutral_sql.key('cell', kind)} FROM (SELECT CAST($cell AS {kind}) AS cell)", {"cell": cell}
    )
    assert found.fetchone() == (row["key"],)


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"])
def test_a_time_without_a_zone_is_the_same_to_source_and_schema(zone):
    """Local times around each change of the clock in a year, as texts and typed, mean the same instant to DuckDB and to a request."""
    local = ZoneInfo(zone)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    hours = [(start + timedelta(hours=h)).astimezone(local).utcoffset() for h in range(366 * 24)]
    changes = [start + timedelta(hours=h) for h in range(1, len(hours)) if hours[h] != hours[h - 1]]
    around = [
        (c.astimezone(local).replace(tzinfo=None) + timedelta(minutes=m)) for c in changes for m in range(-150, 151, 15)
    ]
    naive = [*around, datetime(2024, 7, 1, 12, 30)]
    with duckdb.connect() as connection:
        connection.execute(f"SET TimeZone = '{zone}'")
        for time in naive:
            text = time.isoformat(sep=" ")
            by_text, _ = read(connection, text_sql.time("cell"), text)
            (typed,) = connection.execute("SELECT CAST($t AS TIMESTAMP)::TIMESTAMPTZ", {"t": text}).fetchone()
            assert by_text == typed == times.instant(text, local) == times.instant(time, local), text
            zoned, _ = read(connection, text_sql.time("cell"), text + "Z")
            assert zoned == times.instant(text + "Z", local) == time.replace(tzinfo=UTC), text


@pytest.mark.parametrize(("text", "expected"), TRUTHS)
def test_a_truth_value_is_what_the_table_says(duck, text, expected):
    """Each spelling is true or false, missing, or unreadable."""
    value, unreadable = read(duck, text_sql.truth("cell"), text)
    assert unreadable == (expected == UNREADABLE)
    assert value is (None if unreadable else expected)


DIGITS = [*"0159+-.eE, ", "17067456", "000", "123456789", "253402300", "2024-02-01", "T10:05", "Z"]


@pytest.mark.parametrize(
    ("in_sql", "read_cell", "pieces"),
    [
        (text_sql.number, spelling.number, [*"0123456789+-.eE,_ ٣x", "NA", "\xa0", "\t", "000", "308", "17976931"]),
        (text_sql.truth, spelling.truth, ["true", "T", "rue", "NO", "no", "y", "es", "1", "0", ".0", " ", "nan"]),
        (
            text_sql.time,
            times.instant,
            [
                "2024-02-",
                "29",
                "30",
                "1",
                "T",
                " ",
                "10:",
                "23:",
                "59",
                "60",
                ".5",
                ",123456789",
                "Z",
                "UTC",
                "+02",
                ":30",
                "-24",
            ],
        ),
        *(
            (partial(text_sql.time, epoch=unit), partial(times.instant, epoch=unit), DIGITS)
            for unit in ("s", "ms", "us", "ns")
        ),
    ],
)
def test_any_text_is_read_alike_in_sql_and_in_python(duck, in_sql, read_cell, pieces):
    """Random texts have the same value, or none, by SQL and by the schema."""
    draw = random.Random(7)
    texts = sorted({"".join(draw.choices(pieces, k=draw.randint(1, 9))) for _ in range(20_000)})

    def expected(text):
        try:
            return read_cell(text), False
        except spelling.Unreadable:
            return None, True

    cells = f"(SELECT {text_sql.stripped('text')} AS cell FROM (SELECT unnest($texts) AS text))"
    select = f"SELECT {in_sql('cell')}, {text_sql.unreadable('cell', in_sql('cell'))} FROM {cells}"
    found = duck.execute(select, {"texts": texts}).fetchall()
    assert [(text, *pair) for text, pair in zip(texts, found, strict=True) if pair != expected(text)] == []
    assert len({unreadable for _, unreadable in found}) == 2


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize(
    ("duckdb_type", "cells"),
    [
        ("BIGINT", [0, -1, 1706745600, 1706745600123, 1706745600123456, 1706745600123456789, 2**63 - 1, None]),
        (
            "DOUBLE",
            [0.0, -0.5, 1706745600.0, 1706745600.25, 1706745600.123456, 1.7e18, 1e300, 0.0000015, math.nan, math.inf],
        ),
        ("DECIMAL(18,3)", [Decimal("1706745600.125"), Decimal("-1.500"), Decimal("7.000")]),
        ("VARCHAR", ["1706745600", " 1706745600.50 ", "1.7067456e9", "2024-02-01T10:05+01", "NaT", "", "soon"]),
        ("DATE", [date(2024, 2, 1)]),
        ("TIMESTAMPTZ", [datetime(2024, 2, 1, 10, 5, 6, 123456, UTC)]),
    ],
)
def test_a_time_of_any_type_is_that_of_a_request(duck, unit, duckdb_type, cells):
    """With an epoch each cell of a source's column means what the same cell means in a request; what is no time is none."""

    def expected(cell):
        try:
            return times.instant(cell, epoch=unit)
        except spelling.Unreadable:
            return None

    source = Source(query="$start $end", key="id", event_time="at", window_days=1, epoch=unit)
    sql = source_times.instant(source, "at", duckdb_type)
    column = f"(SELECT CAST(c AS {duckdb_type}) AS at FROM (SELECT unnest($cells) AS c))"
    found = [value for (value,) in duck.execute(f"SELECT {sql} FROM {column}", {"cells": cells}).fetchall()]
    assert found == [expected(cell) for cell in cells]
    assert any(time is not None for time in found)


def test_a_number_is_no_time_without_an_epoch():
    """A number, and its digits as a text, are refused with the key's full name."""
    for cell in (1706745600, 1706745600.5, "1706745600", "20240201"):
        with pytest.raises(
            spelling.Unreadable, match=r"a number is a time only as an event time, with models\.NAME\.source\.epoch"
        ):
            times.instant(cell)
    for cell in (True, [1], "1706745600 s"):
        with pytest.raises(spelling.Unreadable, match="must be a time like"):
            times.instant(cell, epoch="s")


def test_white_space_is_what_python_takes_for_it():
    """SQL takes away the same white space as Python does, of all characters."""
    assert "[" + "".join(filter(str.isspace, map(chr, range(sys.maxunicode + 1)))) + "]" == text_sql._SPACE
