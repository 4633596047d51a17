"""Cron schedules of params.yaml: what they accept runs in Airflow, and what would never run, or at other times, is refused."""

import random
from datetime import UTC, datetime

import pytest
from croniter import croniter
from pydantic import TypeAdapter, ValidationError

from pipeline.settings.cron import OFTEN, Cron

CRON = TypeAdapter(Cron)
NOW = datetime(2024, 1, 1, tzinfo=UTC)
VALUES = (
    "0",
    "1",
    "5",
    "7",
    "29",
    "30",
    "31",
    "12",
    "23",
    "59",
    "60",
    "mon",
    "feb",
    "sun",
    "dec",
    "l",
    "l1",
    "1#2",
    "fri#5",
    "?",
)


def accepted(cron: str) -> bool:
    try:
        return CRON.validate_python(cron) == cron
    except ValidationError:
        return False


@pytest.mark.parametrize(
    "cron",
    [
        "0 6 * * *",
        "*/15 * * * *",
        "0 0 29 2 *",
        "0 0 L 2 *",
        "0 0 * * mon-sun",
        "0 0 * * 5#5",
        "0 0 1 */3 *",
        "0 0 ? * mon",
    ],
)
def test_a_schedule_that_runs_is_accepted(cron):
    """Ranges, steps, names, the last day of a month, and its second monday are accepted."""
    assert accepted(cron)


def test_airflows_short_names_are_accepted():
    """The short names of schedules are accepted."""
    assert all(map(accepted, OFTEN))


@pytest.mark.parametrize(
    ("cron", "told"),
    [
        ("", "must be a cron schedule of five fields"),
        ("@reboot", "must be a cron schedule of five fields"),
        ("0 0 * * 1 5", "must be a cron schedule of five fields"),
        ("60 0 * * *", "minute '60' must be from 0 to 59"),
        ("5-1 * * * *", "minute '5-1' must go from a lower value to a higher one"),
        ("0 0 1-1 * *", "day of the month '1-1' must go from a lower value to a higher one"),
        ("*/0 * * * *", "minute '*/0': the step must be from 1 to 60"),
        ("*/90 * * * *", "minute '*/90': the step must be from 1 to 60"),
        ("0 0 0 * *", "day of the month '0' must be from 1 to 31"),
        ("0 0 * 13 *", "month '13' must be from 1 to 12"),
        ("0 0 * mon *", "month 'mon' must be from 1 to 12"),
        ("0 0 31 2 *", "never meet, so it would never run"),
        ("0 0 31 apr,jun ?", "never meet, so it would never run"),
        ("0 0 1 * 1#2", "never meet, so it would never run"),
        ("0 0 * * 1#1,3", "mixes plain days"),
    ],
)
def test_a_schedule_that_is_wrong_is_refused_with_its_field(cron, told):
    """A field that is wrong, and days that never meet, are refused by name."""
    with pytest.raises(ValidationError, match="value_error") as refused:
        CRON.validate_python(cron)
    assert told in str(refused.value)


def test_what_is_accepted_runs_in_airflow():
    """Airflow's own reader finds a next and a last run of each schedule that is accepted, out of 20,000 drawn ones."""
    draw = random.Random(3)

    def field() -> str:
        one, other = draw.choice(VALUES), draw.choice(VALUES)
        step = draw.choice(["0", "1", "2", "15", "40"])
        return draw.choice(["*", "*", "*", one, f"{one}-{other}", f"{one}/{step}", f"{one},{other}", f"*/{step}"])

    drawn = [" ".join(field() for _ in range(5)) for _ in range(20_000)]
    fit = [cron for cron in drawn if accepted(cron)]
    assert len(fit) > 500
    for cron in fit:
        assert croniter(cron, NOW).get_next() > NOW.timestamp() > croniter(cron, NOW).get_prev(), cron
