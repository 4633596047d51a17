"""`perennial init` of cells that people read as numbers or times: the SELECT that it names reads each as it was meant."""

import re

import numpy as np
import pandas as pd
import pytest

from pipeline.data import sql
from pipeline.errors import DataError
from pipeline.init.request import Request
from pipeline.init.run import init
from tests.unit.test_init import TABLE, project

__all__ = ["project"]

EUROS = ("1.234,50 €", "12,50 €", "999 €")
DOLLARS = ("$1,234.50", "$12.50", "$999")


def offered(project, table, separator=",", time="seen_at"):
    """The rows that the offered SELECT reads, and the line that offers it."""
    table.to_csv(project / "rows.csv", index=False, sep=separator)
    with pytest.raises(DataError) as refused:
        init(Request("churn", str(project / "rows.csv"), "churned", time), project, True)
    select = re.search(r'--data "((?:[^"\\]|\\.)*)"', str(refused.value))
    assert select, str(refused.value)
    with sql.connect(project) as connection:
        return connection.execute(re.sub(r"\\(.)", r"\1", select[1])).df(), str(refused.value)


@pytest.mark.parametrize(
    ("kinds", "values"),
    [
        (EUROS, (1234.5, 12.5, 999)),
        (DOLLARS, (1234.5, 12.5, 999)),
        (("999 €", "1.234 €"), (999, 1234)),
        (("$999", "$1,234"), (999, 1234)),
        (("0,125%", "7,5%"), (0.125, 7.5)),
        (("1.234.567 €", "999.000 €"), (1234567, 999000)),
        (("12,34,567", "98,765", "1,20,000.5"), (1234567, 98765, 120000.5)),
        (("\u22121,5", "2,25", "\u221210"), (-1.5, 2.25, -10)),
        (("١٢٫٥", "٧", "٣٤"), (12.5, 7, 34)),
        (("１２．５", "－７", "３４"), (12.5, -7, 34)),
    ],
)
def test_the_decimal_mark_of_marked_numbers_is_told_by_all_cells(project, kinds, values):
    """999 € beside 12,50 € makes no 1250 of it, and 1.234 € beside 999 € is a thousand and more."""
    rows, line = offered(project, TABLE.assign(spend=np.resize(kinds, len(TABLE))), separator=";")
    assert list(rows.spend[: len(values)]) == list(values)
    assert "which reads" in line


def test_numbers_with_both_decimal_marks_are_refused(project):
    """A column with 12,50 € and $12.50 cannot be read by one rule."""
    TABLE.assign(spend=np.resize(["12,50 €", "$12.50"], len(TABLE))).to_csv(project / "rows.csv", index=False, sep=";")
    with pytest.raises(DataError, match="a comma is a decimal mark in one and none in the other"):
        init(Request("churn", str(project / "rows.csv"), "churned", "seen_at"), project, True)


@pytest.mark.parametrize(
    ("kinds", "line"),
    [(("$12.50", "€9.75"), "has numbers with $ and €"), (("45 %", "0.45"), "has numbers with %, and 1,000 numbers")],
)
def test_numbers_of_two_measures_are_refused(project, kinds, line):
    """Without their marks dollars would be euros, and 45 % a hundred times 0.45."""
    TABLE.assign(spend=np.resize(kinds, len(TABLE))).to_csv(project / "rows.csv", index=False)
    with pytest.raises(DataError) as refused:
        init(Request("churn", str(project / "rows.csv"), "churned", "seen_at"), project, True)
    assert line in str(refused.value) and '--data "' not in str(refused.value)


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda t: ((t - pd.Timestamp("1899-12-30")) / pd.Timedelta(days=1)).round(6), "days since 1899-12-30"),
        (lambda t: t.dt.strftime("%m/%d/%Y %I:%M:%S %p"), "%m/%d/%Y %I:%M:%S %p"),
    ],
)
def test_times_as_a_table_program_writes_them_are_read_by_the_offered_select(project, write, told):
    """Days since 1899, and twelve hours with seconds."""
    seen = pd.to_datetime(TABLE.seen_at).dt.tz_localize(None).dt.floor("s")
    rows, line = offered(project, TABLE.assign(seen_at=write(seen)))
    assert told in line
    assert (pd.to_datetime(rows.seen_at) - seen).abs().max() < pd.Timedelta(seconds=1)


def test_the_offered_select_keeps_leading_zeros_of_other_columns(project):
    """A key 00042 stays so, as requests have it; a column may be called by a word of SQL."""
    table = TABLE.assign(
        customer=[f"{i:07d}" for i in range(len(TABLE))],
        when=pd.to_datetime(TABLE.seen_at).dt.strftime("%d/%m/%Y %H:%M"),
    )
    rows, _ = offered(project, table.drop(columns="seen_at"), time="when")
    assert list(rows.customer[:2]) == ["0000000", "0000001"]
    assert (rows.when.dt.tz_localize("UTC") == pd.to_datetime(TABLE.seen_at, utc=True).dt.floor("min")).all()


def test_a_decimal_comma_stays_one_where_a_word_is_made_missing(project):
    """8,5 is 8.5 in the SELECT that makes `?` a missing value."""
    numbers = np.arange(len(TABLE)) + 0.5
    cells = np.where(np.arange(len(TABLE)) % 10 == 0, "?", [str(each).replace(".", ",") for each in numbers])
    rows, _ = offered(project, TABLE.assign(spend=cells).rename(columns={"spend": "spend $x"}), separator=";")
    assert rows["spend $x"][1] == 1.5 and np.isnan(rows["spend $x"][0])


def test_infinities_among_numbers_become_missing_ones(project):
    """The offered SELECT makes no double of `inf`: such a row would be quarantined."""
    cells = np.where(np.arange(len(TABLE)) % 10 == 0, "Inf", TABLE.spend.astype(str))
    rows, _ = offered(project, TABLE.assign(spend=cells))
    assert np.isnan(rows.spend[0]) and rows.spend.notna().sum() == 0.9 * len(TABLE)
