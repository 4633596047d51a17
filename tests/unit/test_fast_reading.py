"""What is read fast, because it is spelt as usual or comes in many rows, is read as `Column.read` reads it cell by cell."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.serving import tensors
from pipeline.serving.errors import BadRequest
from pipeline.serving.quick_scan import most_parse_bytes
from pipeline.serving.scan import Bounds, Scan
from pipeline.serving.schema import Column, Reader, Schema, Unreadable, spelling, times
from pipeline.serving.schema.blocks import held
from pipeline.serving.schema.few_rows import FEW_ROWS

BERLIN = ZoneInfo("Europe/Berlin")
RULED = [
    Column("a number"),
    Column("required", "number", False, 0.1, 2.5),
    Column("listed", "number", allowed=(0.1, 2.0)),
    Column("exact", precision="float64", max=2.0**60),
    Column("whole", "integer", min=-5),
    Column("flag", "boolean"),
    Column("always yes", "boolean", False, allowed=(1.0,)),
    Column("since", "datetime"),
    Column("due", "datetime", False),
    Column("note", "text"),
    Column("words", "text", False),
    Column("plan", "category", learnt=frozenset({"basic", "plus", "2"})),
    Column("code", "category", False, spelling="number", learnt=frozenset({"1", "2.5", "17"})),
    Column("truth", "category", spelling="truth", learnt=frozenset({"true", "false"})),
    Column("origin", "category", allowed=("EWR", "JFK"), learnt=frozenset({"EWR", "JFK"})),
    Column("any text", "category", False),
    Column("any number", "category", spelling="number"),
]
NUMBERS = (0.0, -0.0, 0.1, 2.5, 2, 1, -6, 17, 2**53 + 1, 2**62, 3.5e38, 1e-50, 10**400, 1e999, 0.30000000000000004)
TEXTS = (
    "",
    "NA",
    "nan",
    "5",
    " +5 ",
    "2.50",
    "basic",
    "plus",
    "EWR",
    "two words ",
    "yes",
    "No",
    "true",
    "x" * 600,
    "1e999",
)
TIMES = ("2024-02-01", "2024-02-01T10:00:00Z", "2024-03-31 02:30", "2024-10-27T02:30:00", "0001-01-01T00:00:00+01:00")
USUAL = {
    "number": st.sampled_from((1, 0.25, 2.5, -0.0, None)),
    "integer": st.sampled_from((1, 2.0, None)),
    "boolean": st.sampled_from((True, False, None)),
    "datetime": st.sampled_from((*TIMES[:3], None)),
    "text": st.sampled_from((*TEXTS[:3], "two words ", None)),
    "category": st.sampled_from(("basic", "17", "EWR", "yes", "2", 1, None)),
}
CELLS = st.one_of(
    st.sampled_from((None, True, False, [], [1], {}, *NUMBERS, *TEXTS, *TIMES)),
    st.floats(allow_nan=False),
    st.integers(-(2**64), 2**64),
)
COLUMNS = st.lists(st.sampled_from(RULED), min_size=1, max_size=6, unique_by=lambda column: column.name)


@st.composite
def tables(draw):
    """Columns and rows for them: most cells as usual, a few of any sort."""
    columns = draw(COLUMNS)
    count = draw(st.one_of(st.integers(1, 3), st.integers(FEW_ROWS - 1, FEW_ROWS + 2)))
    rows = [{column.name: draw(USUAL[column.kind]) for column in columns} for _ in range(count)]
    for _ in range(draw(st.integers(0, 2))):
        draw(st.sampled_from(rows))[draw(st.sampled_from(columns)).name] = draw(CELLS)
    return columns, rows


def cell_by_cell(reader, rows, flag):
    """What `Column` says of each cell: (numbers, texts, unknown, breaches), or the text of the first fault."""
    columns = [reader.schema[name] for name in reader.names]
    numbers, texts, unknown, breaches = [], [], {}, {}
    if flag:
        # What only breaks a rule is no reason to refuse another cell's row.
        for number, row in enumerate(rows):
            for column in columns:
                try:
                    column.read(row[column.name], BERLIN)
                except Unreadable as error:
                    return f"row {number}: column {column.name} {error}"
    for number, row in enumerate(rows):
        numbers.append([])
        texts.append([])
        for column in columns:
            try:
                value = column.read(row[column.name], BERLIN)
            except Unreadable as error:
                return f"row {number}: column {column.name} {error}"
            # In the columns of the matrix a text is its sizes.
            sizes = (
                [None if part != part else part for part in column.numbers(value)] if column.kind == "text" else [value]
            )
            for fault in dict.fromkeys(filter(None, map(column.breach, sizes))):
                if not flag:
                    return f"row {number}: column {column.name} {fault}"
                breaches.setdefault(number, []).append(f"{column.name} {fault}")
            if not column.is_category:
                numbers[-1].extend(column.numbers(value))
                continue
            texts[-1].append(value or "")
            if column.learnt is not None and value and value not in column.learnt:
                unknown.setdefault(number, []).append(column.name)
    return numbers, texts, unknown, breaches


def bits(matrix):
    """The very numbers, 0 and -0.0 apart; each NaN is the same."""
    return np.where(np.isnan(matrix), 0.5, matrix).tobytes(), np.isnan(matrix).tolist(), matrix.dtype


@given(tables(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_rows_are_read_as_their_cells_are_one_by_one(table, flag):
    """Few rows or many, as records, rows or columns: each gives the numbers, texts, unknown categories and refusals of its cells."""
    columns, rows = table
    reader = Reader(Schema(tuple(columns), timezone="Europe/Berlin"), "flag" if flag else "refuse")
    expected = cell_by_cell(reader, rows, flag)
    forms = {
        "records": lambda: reader.of_records(rows),
        "table": lambda: reader.of_table(list(rows[0]), [list(row.values()) for row in rows]),
        "columns": lambda: reader.of_columns({name: [row[name] for row in rows] for name in rows[0]}),
    }
    for form, read in forms.items():
        if isinstance(expected, str):
            with pytest.raises(BadRequest) as refused:
                read()
            assert str(refused.value) == expected, form
            continue
        numbers, texts, unknown, breaches = expected
        got = read()
        wanted = held(np.array(numbers, "float64").reshape(len(rows), -1), np.array(reader._double_places))
        assert bits(got.numbers) == bits(wanted), form
        assert got.texts.tolist() == texts, form
        assert (dict(got.unknown), {row: sorted(b) for row, b in got.breaches.items()}) == (
            unknown,
            {row: sorted(b) for row, b in breaches.items()},
        ), form


@given(tables())
@settings(max_examples=100, deadline=None)
def test_a_few_rows_that_keep_the_contract_never_need_the_matrices(table):
    """Only a row that is refused, or has a category that no training saw, is read a second time."""
    columns, rows = table
    reader = Reader(Schema(tuple(columns), timezone="Europe/Berlin"))
    expected = cell_by_cell(reader, rows, False)
    usual = not isinstance(expected, str) and not expected[2]
    cells = [tuple(row[name] for name in reader.names) for row in rows]
    assert (reader._few.read(cells) is not None) == usual


def two(low, high):
    return st.integers(low, high).map("{:02}".format)


WRITTEN = st.tuples(
    st.sampled_from(("0001", "1970", "2023", "2024", "9999")),
    st.just("-"),
    two(1, 13),
    st.just("-"),
    two(0, 31),
    st.sampled_from(("", "T", " ", "t")),
    two(0, 24),
    st.just(":"),
    two(0, 61),
    st.one_of(st.just(""), two(0, 60).map(":{}".format)),
    st.sampled_from(("", ".5", ",25", ".123456", ".123456789")),
    st.sampled_from(("", "Z", " UTC", "+01", "+0100", "+01:00", "-03:30", "+19:59", "+24:00", "+01:75", "+01:00:30")),
).map("".join)


@given(WRITTEN, st.sampled_from(("UTC", "Europe/Berlin", "Africa/Casablanca", "Australia/Lord_Howe")).map(ZoneInfo))
@settings(max_examples=500, deadline=None)
def test_a_time_that_is_written_as_usual_is_the_same_time(text, zone):
    """With a space around it a time takes the long way: to the same instant, or the same refusal."""

    def read(text):
        try:
            return times.instant(text, zone)
        except Unreadable as error:
            return str(error).partition("; got")[0]

    assert read(text) == read(f" {text}")


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)), st.sampled_from(sorted(available_timezones())))
@settings(max_examples=300, deadline=None)
def test_a_local_time_far_from_any_change_of_the_clock_is_told_by_one_offset(local, zone):
    """The short way to UTC gives the second of the two times that a clock shows twice, as the long way does."""
    tz = ZoneInfo(zone)
    try:
        expected = max(local.replace(tzinfo=tz, fold=fold).astimezone(UTC) for fold in (0, 1))
    except OverflowError:
        return
    assert times.instant(local, tz) == expected


@given(
    st.one_of(st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.integers(-(2**60), 2**60).map(float)),
    st.sampled_from(("text", "number", "truth")),
)
@settings(max_examples=500, deadline=None)
def test_a_number_is_the_same_category_whatever_holds_it(number, kind):
    """The short way of an integer or a float ends where its decimal does, and where numpy's double does."""

    def read(cell):
        try:
            return spelling.category(cell, kind)
        except Unreadable:
            return Unreadable

    # A float is its shortest text.
    decimal = Decimal(repr(number)) if isinstance(number, float) else Decimal(number)
    lossy = isinstance(number, float) and not abs(number) < spelling.EXACT
    assert read(number) == (Unreadable if lossy or abs(decimal.adjusted()) > spelling.MAX_DIGITS else read(decimal))
    if isinstance(number, float):
        assert read(np.float64(number)) == read(number)


@given(
    st.sampled_from(tensors.DATATYPES),
    st.lists(
        st.one_of(
            st.sampled_from(
                (None, True, False, 0, 1, 1.0, -0.0, 127, 128, -129, 65504, 65505.0, 2**64, 1e39, "a", [], {})
            ),
            st.integers(-(2**65), 2**65),
            st.floats(allow_nan=False),
        ),
        max_size=4,
    ),
)
@settings(max_examples=500, deadline=None)
def test_values_fit_a_datatype_together_only_if_each_fits_it(datatype, values):
    """The check of a whole tensor lets none pass that the check of one value refuses."""
    fits, _ = tensors._rule(datatype)
    if tensors._all_fit(datatype, values):
        assert all(value is None or fits(value) for value in values)


PIECES = st.lists(
    st.sampled_from(
        (
            b"[",
            b"]",
            b"{",
            b"}",
            b'"',
            b",",
            b":",
            b"1",
            b"abc",
            b" ",
            b"\\",
            b'"a"',
            b"NaN",
            b"\0",
            b"x" * 40,
            b"9" * 40,
        )
    ),
    max_size=40,
).map(b"".join)


@given(
    st.one_of(
        PIECES, st.recursive(st.integers() | st.text(max_size=40), st.lists).map(lambda tree: json.dumps(tree).encode())
    )
)
@settings(max_examples=200, deadline=None)
def test_what_passes_without_the_scan_the_scan_would_let_pass(body):
    """It is within each bound, and takes no more memory than is reserved for it."""
    bounds = Bounds(3, 12, "as many as the test allows", 32)
    most = most_parse_bytes(body, bounds)
    if most is not None:
        scan = Scan(bounds)
        scan.feed(body)
        assert most >= scan.parse_bytes()


def test_most_bodies_pass_without_the_scan():
    """Rows of numbers and texts, in each form, need no scan: or it would be slow, and nobody would notice."""
    rows = [{"distance": 301.0, "temp": None, "origin": "JFK", "note": "late, again"}] * 600
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    tensors = [{"name": n, "shape": [600], "datatype": "BYTES", "data": c} for n, c in columns.items()]
    for request in ({"dataframe_records": rows}, {"inputs": columns}, {"inputs": tensors}):
        assert most_parse_bytes(json.dumps(request).encode(), Bounds(8, 100_000, ""))
