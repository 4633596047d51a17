"""Each look at a model has a page of its own; an alarm has Evidently's beside it."""

import re

import pytest

from pipeline.ledger.events import DriftChecked
from pipeline.pages.overview import report_file
from tests.support.monitored import Monitored, at


@pytest.fixture
def model(project, ledger, churn_artifacts, tmp_path):
    return Monitored(project, ledger, churn_artifacts, tmp_path / "home", 2)


def test_a_look_is_drawn_from_its_profiles_with_the_looks_before_it(model):
    """Ours is what the event names and the overview links to; its sentence, its measures and both looks are on it."""
    first, second = model.check(at(3)), model.check(at(10))
    page = second.report.read_text()
    assert second.said[1:] in page and second.drift.verdict in page
    assert "Requests: no verdict, the log has 0 whole days before this look" in page
    assert page.count("<svg") == len(second.drift.features) == len(first.drift.features)
    assert "2024-02-03 00:00 to 2024-02-10 00:00" in page
    assert "<svg" not in first.report.read_text()
    event = model.ledger.events(DriftChecked)[-1].event
    assert event.report == str(second.report)
    assert report_file(model.context, "churn", second.report.name) == second.report


def test_an_alarm_has_evidently_beside_ours_and_a_look_without_rows_has_no_page(model):
    """Its page is linked, and its PSI of each feature stands beside our verdict."""
    alarm = model.check(at(3), evidently=True)
    assert alarm.drift.verdict == "drift"
    (name,) = re.findall(r'href="([^"]*-evidently.html)"', alarm.report.read_text())
    theirs = report_file(model.context, "churn", name)
    assert theirs.stat().st_size > 100_000 and "Evidently: PSI" in alarm.report.read_text()
    assert model.check(at(28)).report is None
