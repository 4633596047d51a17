"""The spellings of one value, kind by kind, and rules that hold in each form of a request."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pytest

from pipeline.data import neutral_sql
from pipeline.rollout import replay
from pipeline.serving.errors import BadRequest
from pipeline.serving.schema import Column, Reader, RowRefused, Schema, Unreadable, spelling, times
from tests.support import in_memory
from tests.support.spellings import KEYS

NO_VALUE = [None, float("nan"), np.float32("nan"), pd.NaT, pd.NA, Decimal("NaN"), ""]


@pytest.mark.parametrize(
    ("read", "value", "cells"),
    [
        (
            spelling.number,
            5.0,
            [5, 5.0, np.int8(5), np.float32(5), Decimal("5.00"), "5", "+5", " 5 ", "5e0", "005", "5."],
        ),
        (spelling.number, 0.0, [0, -0.0, "-0", Decimal("-0"), ".0"]),
        (spelling.number, 0.37, [0.37, "0.37", ".37", "37e-2"]),
        (spelling.truth, 1.0, [True, np.True_, 1, 1.0, "True", "true", "TRUE", " yes ", "Y", "t", "1", "1.0"]),
        (spelling.truth, 0.0, [False, 0, "False", "no", "N", "f", "0", "0.0"]),
        (
            lambda c: spelling.category(c, "number"),
            "2",
            [2, 2.0, np.float32(2), Decimal("2.00"), "2", "2.0", "+2", " 2 ", "002"],
        ),
        (lambda c: spelling.category(c, "number"), "2.5", [2.5, np.float32(2.5), Decimal("2.50"), "2.5", "2.50"]),
        (lambda c: spelling.category(c, "number"), "0.1", [0.1, np.float32(0.1), np.float16(0.1), "0.1"]),
        (lambda c: spelling.category(c, "number"), "two", ["two"]),
        (lambda c: spelling.category(c, "truth"), "true", [True, "True", "yes", 1, 1.0, "1"]),
        (lambda c: spelling.category(c, "truth"), "maybe", ["maybe"]),
        (spelling.category, "2", [2, 2.0, "2"]),
        (spelling.category, "2.0", ["2.0"]),
        (spelling.category, "007", ["007"]),
        (spelling.category, "NA", ["NA"]),
        (spelling.category, " a ", [" a "]),
        (spelling.category, "true", [True, np.True_, "true"]),
        (spelling.category, "2024-02-01", [date(2024, 2, 1), "2024-02-01"]),
        (spelling.key, "7920", [7920, 7920.0, "7920", "7920.0", "7920.00", Decimal("7920"), np.int64(7920)]),
        (spelling.key, "007", ["007"]),
        (spelling.key, "12e5", ["12e5"]),
        (spelling.key, "0", [0, -0.0, "-0.0", "0.0"]),
    ],
)
def test_the_spellings_of_one_value(read, value, cells):
    """Each spelling gives the one value, whatever wrote it."""
    assert [read(cell) for cell in cells] == [value] * len(cells)


@pytest.mark.parametrize("row", KEYS, ids=lambda row: row["cell"])
def test_a_key_is_one_value_at_the_server_as_at_the_router(row):
    """The table of spellings that the router's own test reads: the server has the same key for each."""
    assert spelling.key(orjson.loads(row["cell"])) == row["key"]


@pytest.mark.parametrize("read", [spelling.number, spelling.truth, spelling.category, spelling.key, times.instant])
def test_a_missing_value_is_missing_in_every_kind(read):
    """None, NaN, NaT, pandas' NA and an empty text are a missing value, never a text."""
    assert [read(cell) for cell in NO_VALUE] == [None] * len(NO_VALUE)


@pytest.mark.parametrize(
    ("read", "cell", "message"),
    [
        *(
            (spelling.number, cell, "must be a number")
            for cell in ("1,000", "0,37", "1_0", "0x1", "٣", "much", True, [1], {})
        ),
        *((spelling.number, cell, "must be a finite number") for cell in (math.inf, -math.inf, 10**400, "1e999")),
        (spelling.number, "9" * 500, "must be a number"),
        *((spelling.truth, cell, "must be true or false") for cell in (2, 0.5, 10**400, "maybe", [True])),
        *((spelling.category, cell, "must be text") for cell in ([1], {"a": 1}, datetime(2024, 2, 1), b"a")),
        *(
            (spelling.category, cell, "must be text or a whole number below")
            for cell in (2.0**53, np.float32(2**24), math.inf)
        ),
        *(
            (spelling.key, cell, "must be text or a whole number")
            for cell in (0.5, True, [1], 2.0**53, datetime(2024, 2, 1))
        ),
        *(
            (times.instant, cell, "must be a time like")
            for cell in ("20240201", "2024-W05-4", "2024-02-30", "01.02.2024", 17, "now")
        ),
    ],
)
def test_what_is_no_value_of_its_kind_is_refused(read, cell, message):
    """A cell that cannot be read is refused by what it must be; it never becomes another value."""
    with pytest.raises(Unreadable, match=message):
        read(cell)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("2024-02-01", "2024-02-01T00:00:00Z"),
        ("2024-02-01T10:00", "2024-02-01T10:00:00Z"),
        ("2024-02-01 10:00:00Z", "2024-02-01T10:00:00Z"),
        ("2024-02-01 10:00:00 UTC", "2024-02-01T10:00:00Z"),
        ("2024-02-01T10:00:00,5+01:00", "2024-02-01T09:00:00.500000Z"),
        ("2024-02-01T10:00:00.123456789-0330", "2024-02-01T13:30:00.123456Z"),
        ("2024-02-01T10:00:00+01", "2024-02-01T09:00:00Z"),
        (datetime(2024, 2, 1, 10), "2024-02-01T10:00:00Z"),
        (pd.Timestamp("2024-02-01T10:00:00+01:00"), "2024-02-01T09:00:00Z"),
        (date(2024, 2, 1), "2024-02-01T00:00:00Z"),
    ],
)
def test_a_time_has_one_text(cell, expected):
    """Each form of a time gives its text in UTC."""
    assert times.canonical(cell) == expected
    assert times.instant(expected) == times.instant(cell)
    assert datetime(2000, 1, 1, tzinfo=UTC) == times.EPOCH


COLUMNS = (
    Column("age", min=0, max=100),
    Column("calls", "integer", nullable=False),
    Column("paid", "boolean"),
    Column("since", "datetime"),
    Column("note", "text"),
    Column("size", allowed=(0.1, 2.0)),
    Column("shop", "category", spelling="number", learnt=frozenset({"1", "2"})),
    Column("plan", "category", allowed=("basic", "plus"), learnt=frozenset({"basic", "plus"})),
)
GOOD = {
    "age": 30.5,
    "calls": 3,
    "paid": True,
    "since": "2000-01-02T12:00:00Z",
    "note": "two words",
    "size": 0.1,
    "shop": "2",
    "plan": "plus",
}


def forms_of(row):
    names, values = list(row), list(row.values())
    arrays = {}
    for name, value in row.items():
        arrays[name] = np.empty(1, object)
        arrays[name][0] = value
    return {
        "records": lambda reader: reader.of_records([row]),
        "table": lambda reader: reader.of_table(names, [values]),
        "columns": lambda reader: reader.of_columns({name: [value] for name, value in row.items()}),
        "arrays": lambda reader: reader.of_arrays(arrays),
    }


@pytest.mark.parametrize("form", forms_of(GOOD))
@pytest.mark.parametrize(
    "spelt",
    [
        {},
        {"shop": 2},
        {"shop": 2.0},
        {"shop": "2.0"},
        {"paid": 1, "calls": "3", "age": "30.5"},
        {"paid": "yes", "since": "2000-01-02 12:00"},
        {"since": datetime(2000, 1, 2, 12), "note": "two\nwords"},
        {"since": pd.Timestamp("2000-01-02T13:00:00+01:00")},
        {"since": np.datetime64("2000-01-02T12:00:00.000000000")},
        {"since": np.datetime64("2000-01-02T12", "h")},
    ],
)
def test_every_form_of_a_request_reads_the_same_value(form, spelt):
    """A row has one reading, in each form and each spelling."""
    rows = forms_of(GOOD | spelt)[form](Reader(Schema(COLUMNS)))
    assert rows.numbers.tolist() == [[30.5, 3.0, 1.0, 1.5, 9.0, 2.0, np.float32(0.1).item()]]
    assert rows.texts.tolist() == [["2", "plus"]]
    assert not rows.unknown


@pytest.mark.parametrize("form", forms_of(GOOD))
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"age": -1}, "age must be at least 0; got -1"),
        ({"age": 100.5}, "age must be at most 100; got 100.5"),
        ({"calls": 2.5}, "calls must be a whole number"),
        ({"calls": None}, "calls must not be missing"),
        ({"size": 0.5}, "size must be one of 0.1, 2"),
        ({"plan": "gold"}, "plan must be one of basic, plus"),
    ],
)
def test_a_broken_rule_is_refused_or_flagged(form, broken, message):
    """Each rule of the contract holds in each form of a request; a slot that flags answers the row and names the rule."""
    reads = forms_of(GOOD | broken)[form]
    with pytest.raises(BadRequest, match=f"row 0: column {message}"):
        reads(Reader(Schema(COLUMNS)))
    flagged = reads(Reader(Schema(COLUMNS), "flag"))
    assert len(flagged) == 1
    ((rule,),) = flagged.breaches.values()
    assert message in rule


@pytest.mark.parametrize("form", forms_of(GOOD))
def test_what_cannot_be_read_is_refused_also_where_breaches_are_flagged(form):
    """A cell that is no value of its column is refused whatever the slot does with broken rules."""
    for unreadable in (
        {"age": "old"},
        {"paid": "maybe"},
        {"since": "soon"},
        {"since": 730.5},
        {"note": 7},
        {"note": ["a"]},
        {"plan": ["plus"]},
        {"age": 1e39},
    ):
        with pytest.raises(BadRequest, match=f"row 0: column {next(iter(unreadable))} must be"):
            forms_of(GOOD | unreadable)[form](Reader(Schema(COLUMNS), "flag"))


def test_categories_that_no_training_saw_are_named_by_row():
    """A category that was never learnt is answered and counted; a missing one is none."""
    rows = Reader(Schema(COLUMNS)).of_records([GOOD, GOOD | {"shop": 7}, GOOD | {"shop": None}, GOOD | {"shop": "x"}])
    assert rows.texts[:, 0].tolist() == ["2", "7", "", "x"]
    assert rows.unknown == {1: ["shop"], 3: ["shop"]}


def test_a_schema_is_read_back_as_it_was_written(tmp_path):
    """A snapshot's schema, and a package's with what was learnt, are the same after a round trip."""
    schema = Schema(COLUMNS, "customer", "seen_at")
    schema.write(tmp_path)
    assert Schema.of_snapshot(tmp_path) == schema
    learnt = {"shop": ["1", "2"], "plan": ["basic", "plus"]}
    read = Schema.of_manifest({"schema": schema.as_json()}, learnt)
    assert (read, read["shop"].learnt) == (schema, frozenset({"1", "2"}))
    assert read.as_json() == schema.as_json()


def test_a_value_is_written_as_it_is_read():
    """What a golden request or a replay writes is the value again at the door."""
    reader = Reader(Schema(COLUMNS))
    others = {"age": None, "paid": None, "since": None, "note": None, "shop": None}
    times = [GOOD | {"since": text} for text in ("9999-12-31 23:59:59", "0001-01-01", "1969-07-20T20:17:40.123456Z")]
    notes = [GOOD | {"note": text} for text in (" ", "\n\n", "one", " a  b\tc ", "äöü ß", "x" * 30_000)]
    rows = reader.of_records([GOOD, GOOD | others, *times, *notes])
    again = reader.of_table(reader.names, replay._values(rows, reader))
    assert np.array_equal(again.numbers, rows.numbers, equal_nan=True)
    assert again.texts.tolist() == rows.texts.tolist()


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("unit", ["ns", "us", "ms", "s", "m", "h", "D"])
def test_numpys_times_of_any_unit_are_times_of_the_schemas_zone(zone, unit):
    """A datetime64 means what its text means, and NaT is a missing value."""
    texts = ["2024-02-01", "2024-07-01", "1969-12-31", "2024-10-27"]
    cells = np.array([*texts, "NaT"], f"datetime64[{unit}]")
    reader = Reader(Schema((Column("since", "datetime"),), timezone=zone))
    expected = reader.of_records([{"since": text} for text in [*texts, None]])
    assert np.array_equal(reader.of_arrays({"since": cells}).numbers, expected.numbers, equal_nan=True)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_a_time_that_no_text_can_say_is_refused_by_its_row(zone):
    """Microseconds have years that a time has not; the cell is never another time."""
    cells = np.array(["2024-02-01", "20240-02-01"], "datetime64[us]")
    with pytest.raises(RowRefused, match="row 1: column since must be a time"):
        Reader(Schema((Column("since", "datetime"),), timezone=zone)).of_arrays({"since": cells})


def test_a_missing_text_is_told_once():
    """A text that must not be missing is one broken rule, though the model gets two numbers of it."""
    reader = Reader(Schema((Column("note", "text", nullable=False), Column("age"))), "flag")
    assert reader.of_records([{"note": "", "age": 1}]).breaches == {0: ["note must not be missing"]}


def test_a_package_from_before_schemas_reads_as_it_did():
    """A version without a schema refuses a number as a category: it may have learnt another text of it."""
    features = [{"name": "age", "kind": "number"}, {"name": "shop", "kind": "string", "allowed": ["1"]}]
    reader = Reader(Schema.of_manifest({"features": features, "key": "", "event_time": ""}))
    assert reader.of_records([{"age": 1, "shop": "1"}]).texts.tolist() == [["1"]]
    for refused in ({"age": 1, "shop": 1}, {"age": "1", "shop": "1"}, {"age": True, "shop": "1"}):
        with pytest.raises(BadRequest):
            reader.of_records([refused])


@pytest.mark.parametrize("held", [np.float64, np.float32])
def test_a_number_that_is_a_category_has_one_text_in_training_and_in_a_request(held):
    """However small it is: DuckDB writes 0.00001 as 1e-05, and the model would know it by that name alone."""
    numbers = [
        held(f"{sign}{digits}e{exponent}") for sign in ("", "-") for digits in ("1", "2.5") for exponent in range(-9, 6)
    ]
    numbers += [
        held(0),
        held(0.30000000000000004),
        held("1.234567e-30"),
        np.finfo(held).tiny,
        np.finfo(held).smallest_subnormal,
    ]
    table = pa.table({"c": pa.array(np.array(numbers, held))})
    connection = in_memory.connection().register("given", table)
    duckdb_type = {np.float64: "DOUBLE", np.float32: "FLOAT"}[held]
    trained = connection.sql(f"SELECT {neutral_sql.category('c', duckdb_type)} FROM given").fetchall()
    assert [text for (text,) in trained] == [spelling.category(number, "number") for number in numbers]
    assert [text for (text,) in trained] == [spelling.category(str(number), "number") for number in numbers]
