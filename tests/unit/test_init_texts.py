"""`perennial init` names columns of texts that people read as numbers or times, with the SELECT that reads each as it was meant."""

import re
from datetime import UTC, datetime

import pytest

from pipeline.data import sql
from pipeline.errors import DataError
from pipeline.init import alike, facts, time_forms, units
from pipeline.init.odd_cells import OddCells
from pipeline.init.request import Request
from pipeline.init.table import TABLE, Origin

DAYS = [datetime(2024, 1 + i // 20, 1 + i % 20, 10, tzinfo=UTC) for i in range(60)]


@pytest.fixture
def odd(tmp_path):
    """Looks at a table with one column, `given`."""

    def look(cells):
        connection = sql.connect(tmp_path)
        connection.execute(f"CREATE TEMP TABLE {TABLE} AS SELECT unnest($1::VARCHAR[]) AS given", [cells])
        counted = facts.by_name(facts.count(connection))
        return OddCells(connection, Origin(query=f"SELECT * FROM {TABLE}"), counted)

    return look


def told(odd):
    said = []
    units.say(Request("m", "", "target"), odd.columns, set(), odd, said)
    return [str(each) for each in said]


def read(odd, line):
    """The column as the SELECT of the line reads it."""
    select = re.search(r'--data "((?:[^"\\]|\\.)*)"', line)
    assert select, line
    return [value for (value,) in odd.connection.execute(re.sub(r"\\(.)", r"\1", select[1])).fetchall()]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (lambda i: f"{i}.3k", lambda i: 1000 * i + 300),
        (lambda i: f"{i}M" if i % 2 else f"{i}K", lambda i: i * (1e6 if i % 2 else 1e3)),
        (lambda i: f"${i}m" if i % 2 else f"${i}k", lambda i: i * (1e6 if i % 2 else 1e3)),
        (lambda i: f"{i}.5 kg", lambda i: i + 0.5),
        (lambda i: f"-{i},25 kr.", lambda i: -(i + 0.25)),
        (lambda i: f"USD {i + 1},200", lambda i: (i + 1) * 1000 + 200),
        (lambda i: f"{i}k" if i % 2 else f"{i}", lambda i: i * (1e3 if i % 2 else 1)),
    ],
)
def test_numbers_with_a_unit_are_named_and_read(odd, written, meant):
    """12.3k is 12300, also where it stands beside plain numbers."""
    looked = odd([written(i) for i in range(40)])
    (line,) = told(looked)
    assert line.startswith("numbers as texts: given") and "--categorical given keeps it" in line
    assert read(looked, line) == [pytest.approx(meant(i)) for i in range(40)]


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (lambda i: f"{i} kg" if i % 2 else f"{i}00 g", "write them in one unit"),
        (lambda i: f"€{i}k" if i % 2 else f"${i}k", "write them in one unit"),
        (lambda i: f"<{i}" if i % 3 else f"{i}", "it has bounds, like '<"),
        (lambda i: f"{100 + i}/{60 + i}", "it has several numbers in one, like '1"),
        (lambda i: f"0{i % 9}:{10 + i % 40}", "it has several numbers in one, like '0"),
        (lambda i: f"{i}h {i % 60}m", "it has several numbers in one"),
    ],
)
def test_numbers_that_no_rule_reads_are_named_without_a_select(odd, written, why):
    """Kilograms beside grams, bounds and 120/80 are for a person to decide."""
    (line,) = told(odd([written(i) for i in range(60)]))
    assert why in line and "--data " not in line


@pytest.mark.parametrize(
    "written",
    [
        lambda i: f"{3 + i % 3}G",
        lambda i: f"A{i}",
        lambda i: f"{i} {'abcdefgh'[i % 8]}{'xyz'[i % 3]}",
        lambda i: f"10.0.{i}.1",
        lambda i: f"{i % 5}x{i % 4}",
        lambda i: f"{i:04x}e1f-{i * 77:06x}",
        lambda i: ["basic", "plus"][i % 2],
    ],
)
def test_names_with_digits_are_categories_without_a_word(odd, written):
    """3G, A4, the number of a house, an address of a machine."""
    assert told(odd([written(i) for i in range(60)])) == []


def test_a_target_of_numbers_with_units_is_refused(odd):
    """Each would be a class."""
    looked = odd([f"{i}.3k" for i in range(40)])
    with pytest.raises(DataError, match="--target given: has numbers with k, like '...3k'"):
        units.refuse_target(looked.columns["given"], looked)


@pytest.mark.parametrize(
    "forms",
    [
        ("%Y-%m-%d %H:%M", "%d/%m/%Y %H:%M"),
        ("%Y-%m-%dT%H:%M:%SZ", "%s"),
        ("%d.%m.%Y %H:%M", "%b %d, %Y %H:%M", "%Y-%m-%dT%H:%M:%SZ"),
        ("%d/%m/%Y %I:%M %p",),
    ],
)
def test_times_in_other_or_several_forms_are_named_and_read(odd, forms):
    """Each form is named with its share, and the SELECT reads all of them."""
    written = [
        str(int(day.timestamp())) if form == "%s" else day.strftime(form)
        for i, day in enumerate(DAYS)
        for form in [forms[i % len(forms)]]
    ]
    looked = odd(written)
    (line,) = told(looked)
    assert line.startswith("times as texts: given, ") and f"{100 / len(forms):.1f}% like" in line
    found = read(looked, line)
    assert [time.replace(tzinfo=time.tzinfo or UTC) for time in found] == DAYS
    with pytest.raises(DataError, match="has times in|has times of the form"):
        time_forms.refuse("--time given", looked.columns["given"], looked)


def test_months_are_times_too(odd):
    """2024-03 is always new as a category, as a day is."""
    looked = odd([f"{2019 + i // 12}-{1 + i % 12:02d}" for i in range(60)])
    (line,) = told(looked)
    assert "(%Y-%m)" in line and read(looked, line)[14] == datetime(2020, 3, 1)


def test_days_and_months_in_each_others_place_are_nobodys_to_guess(odd):
    """With 13/01/2024 beside 01/13/2024 no SELECT is offered."""
    (line,) = told(odd([day.strftime("%d/%m/%Y" if i % 2 else "%m/%d/%Y") for i, day in enumerate(DAYS)]))
    assert "nobody can tell the day from the month in both" in line and "--data" not in line


def test_a_few_times_of_another_form_among_right_ones_are_named(odd):
    """One in sixty is quarantined in each run, and somebody should know why."""
    (line,) = told(odd([day.strftime("%d/%m/%Y" if i == 30 else "%Y-%m-%d") for i, day in enumerate(DAYS)]))
    assert "1.7% like '11/02/2024' (%m/%d/%Y, or %d/%m/%Y: both fit)" in line


def test_values_that_differ_in_spelling_alone_are_named_and_written_alike(odd):
    """Basic and basic are two values at the endpoint as well, so somebody should say so."""
    looked, said = odd([["Basic", "basic ", "PRO", "plus"][i % 4] for i in range(60)]), []
    alike.say(["given"], looked.columns, looked, said)
    (line,) = map(str, said)
    assert "2 of its values differ in capitals or spaces alone, like 'Basic' and 'basic '" in line
    assert set(read(looked, line)) == {"basic", "pro", "plus"}
    alike.say(["given"], (looked := odd(["Basic", "plus"] * 9)).columns, looked, said)
    assert len(said) == 1


def test_an_accent_that_is_encoded_in_two_ways_is_named_and_written_alike(odd):
    """Two values that nobody can tell apart on a screen, as a Mac and a form on the web write them."""
    looked, said = odd([["Köln", "Ko\u0308ln", "Bonn", "Essen"][i % 4] for i in range(60)]), []
    alike.say(["given"], looked.columns, looked, said)
    (line,) = map(str, said)
    assert "2 of its values differ in capitals, spaces or how accents are encoded alone" in line
    assert set(read(looked, line)) == {"köln", "bonn", "essen"}


def test_truths_in_words_beside_digits_are_truths(odd):
    """yes, TRUE and 1 are one value where words are more than digits; where they are not, the run reads numbers."""
    given = odd(["yes", "TRUE", "f", "N", "1", "0.0"] * 9).columns["given"]
    assert not given.is_truth and given.with_digits_as_truths().is_truth and not given.with_digits_as_truths().unread
    for others in (["yes", "1", "0"], ["yes", "no", "2"], ["yes", "no", "maybe"]):
        given = odd(others * 9).columns["given"]
        assert given.with_digits_as_truths().is_truth is False, others
