"""A look tells of days on which the source has other rows than such days have."""

from datetime import date, timedelta

import pytest

from harness.project import change_params
from pipeline.ledger.events import DriftChecked, GatesChecked
from pipeline.monitoring.source_volume import judged
from pipeline.runs import data_check
from tests.support.monitored import AS_OF, Monitored

END = date(2024, 3, 1)


def partitions(days=70, **newest):
    """Days of 600 rows and weekends of 200 up to the last of February; `newest` has other rows of a day, such as d2 of the last but one."""
    found = {}
    for back in range(1, days + 1):
        day = END - timedelta(days=back)
        rows = newest.get(f"d{back}", 200 if day.weekday() >= 5 else 600)
        found |= {f"{day}": (0, rows)} if rows else {}
    return found


@pytest.mark.parametrize(
    ("newest", "mature", "unusual"),
    [
        ({}, 0, {}),
        ({"d2": 30}, 0, {"2024-02-28": (30, 600)}),
        ({"d3": 0}, 0, {"2024-02-27": (0, 600)}),
        ({"d2": 1900}, 0, {"2024-02-28": (1900, 600)}),
        ({"d1": 20, "d2": 90}, 2, {}),
        ({"d3": 20}, 2, {"2024-02-27": (20, 600)}),
    ],
)
def test_a_day_is_compared_with_such_days_once_its_labels_have_matured(newest, mature, unusual):
    """Weekends are usual, and so are days whose labels still come; none at all is unusual."""
    found = judged(partitions(**newest), "2024-03-01T00:00:00+00:00", timedelta(days=mature), 1)
    assert (found.unusual, found.newest) == (unusual, f"{END - timedelta(days=1 + mature)}")
    assert all(f"{rows:,} on {day} ({usual:,} are usual)" in str(found) for day, (rows, usual) in unusual.items())
    assert ("usual on each" in str(found)) == (not unusual)


def test_of_a_short_history_there_is_no_verdict():
    """Four weeks before the newest seven days are needed, without the first day, which may be a part."""
    found = judged(partitions(35), "2024-03-01T06:00:00+00:00", timedelta(0), 1)
    assert str(found) == "the source's rows: no verdict, 34 whole days have mature labels, 35 required"
    assert judged(partitions(36), "2024-03-01T06:00:00+00:00", timedelta(0), 1).reason == ""


def test_each_look_has_it_of_the_newest_run_before_it(project, ledger, churn_artifacts, tmp_path):
    """Its line and the event; without a run that tells there is none."""
    model = Monitored(project, ledger, churn_artifacts, tmp_path / "home", 2)
    assert data_check.source(model.context, "churn", AS_OF) is None
    for as_of, rows in (("2024-03-01T00:00:00+00:00", 30), ("2024-03-02T00:00:00+00:00", 600)):
        ledger.append(GatesChecked(verdicts=[], as_of=as_of, quarantined_a_day=partitions(d9=rows)), "churn")
    check = model.check()
    assert check.data_lines[-1] == (
        "the source's rows: no verdict, nobody knows how long labels take; set source.label_delay_days"
    )
    model.landed(AS_OF, 86_400, 2 * 86_400)
    check = model.check()
    assert check.data_lines[-1].startswith(
        "the source's rows: unusual, 30 on 2024-02-21 (600 are usual), of the 7 days up to"
    )
    assert ledger.events(DriftChecked)[-1].event.source["unusual"] == {"2024-02-21": [30, 600]}
    change_params(project, "models.churn.source.label_delay_days", 0)
    assert data_check.source(model.context, "churn", AS_OF).unusual == {}
