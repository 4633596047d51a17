"""`perennial init` says in which zone it takes times that name none."""

import pandas as pd
import pytest

from tests.unit.test_init import SEEN, TABLE, drafted, project

__all__ = ["project"]
NAIVE = "%Y-%m-%d %H:%M:%S"


def zones(result):
    return [str(each) for each in result.draft.assumptions if each.what == "time zone"]


@pytest.mark.parametrize(
    ("times", "file"),
    [
        (SEEN.dt.strftime(NAIVE), "customers.csv"),
        (SEEN.dt.strftime("%Y-%m-%dT%H:%M"), "customers.csv"),
        (SEEN, "customers.parquet"),
        (SEEN.dt.date, "customers.parquet"),
        (SEEN.dt.strftime("%Y-%m-%d"), "customers.csv"),
        (SEEN.dt.strftime(NAIVE), "customers.parquet"),
    ],
    ids=["CSV", "CSV, without seconds", "TIMESTAMP", "DATE", "days in a CSV", "texts in Parquet"],
)
def test_times_that_name_no_zone_are_said_to_be_utc(project, times, file):
    """The line has an example, and the flag that changes it; with the flag it names that zone."""
    (said,) = zones(drafted(project, TABLE.assign(seen_at=times), file))
    assert said.startswith("time zone: UTC, seen_at names none, e.g. 2024-01-01") and said.endswith("(--timezone)")
    (said,) = zones(drafted(project, TABLE.assign(seen_at=times), file, timezone="Europe/Berlin"))
    assert said.startswith("time zone: Europe/Berlin")


@pytest.mark.parametrize(
    "form", ["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S+01:00", "%Y-%m-%d %H:%M:%S-0230", "%Y-%m-%d %H:%M UTC"]
)
def test_times_that_name_their_zone_need_no_line(project, form):
    """Nothing is assumed of them."""
    assert zones(drafted(project, TABLE.assign(seen_at=SEEN.dt.strftime(form)))) == []


def test_a_column_with_a_zone_needs_no_line(project):
    """Nor of a column that has a zone by its type."""
    aware = pd.Series(SEEN).dt.tz_localize("America/New_York")
    assert zones(drafted(project, TABLE.assign(seen_at=aware), "customers.parquet")) == []
