"""Each look at a model has a page of its own; an alarm has Evidently's beside it."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness.project import change_params
from pipeline.ledger.events import DriftChecked
from pipeline.monitoring.answer_profile import ANSWERS
from pipeline.monitoring.drift import Window, compare
from pipeline.monitoring.drift_page import Sides, drift_page
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.monitoring.profiles.reference import reference_of
from pipeline.pages.overview import report_file
from pipeline.settings.models import DriftLimits
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
    drawn = re.findall(r'aria-label="(\w+), ([\w ]+): times its limit', page)
    assert {name for name, _ in drawn} == {feature.feature for feature in second.drift.features}
    assert ("spend", "PSI") in drawn and page.count("<svg") == len(drawn)
    spend = next(feature for feature in second.drift.features if feature.feature == "spend")
    assert f"PSI {spend.scores[0].value:.3g}, limit {spend.scores[0].limit:.3g}" in page
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


def test_slices_are_counted_in_the_log_and_told(model):
    """Of a version from before the setting by its sample: each has its verdict in the event and on the page."""
    change_params(model.project, "models.churn.monitor.slices", ["plan"])
    check = model.check(at(3))
    told = {of["slice"]: of for of in model.ledger.events(DriftChecked)[-1].event.slices}
    assert (told["plan is plus"]["rows_now"], told["plan is plus"]["verdict"]) == (check.drift.rows_now, "moved")
    assert (told["plan is basic"]["rows_now"], told["plan is basic"]["verdict"]) == (0, "no verdict")
    assert '<h2 id="slices">' in check.report.read_text()
    # All of it moved in all rows, so that no slice is named.
    assert {*check.drift.as_dict()["moved"]} == {"spend", "calls", "plan"}


def test_a_look_at_some_hours_is_compared_with_the_same_hours_of_the_sample(model):
    """A look at a day is compared with all that was learnt from."""
    whole = model.reference.rows
    change_params(model.project, "models.churn.monitor.window_days", 0.5)
    assert 0 < model.check(at(3)).drift.rows_before < whole
    change_params(model.project, "models.churn.monitor.window_days", 1)
    assert model.check(at(3)).drift.rows_before == whole


@pytest.mark.parametrize(
    ("classes", "kept", "counted", "drawn"),
    [
        ((), {"edges": [0.25, 0.5], "shares": [0.5, 0.3, 0.2], "mean": 0.3}, [10, 20, 70], ["up to 0.25", "over 0.5"]),
        (("stay", "go"), {"edges": [], "shares": [0.6, 0.4], "mean": 0.0}, [30, 70, 0], ["stay", "go"]),
        ((), {}, [10, 20, 70], []),
    ],
)
def test_the_page_draws_the_answers_then_and_now(classes, kept, counted, drawn):
    """By the buckets of those to the held-out rows, or by class; nothing where none were counted."""
    table = pd.DataFrame({"x": np.arange(300) % 7})
    known = replace(reference_of(table, ["x"], [], None), answers=kept)
    now = profile_of(table, known.layout)
    with_answers = replace(now, cells={**now.cells, ANSWERS: np.array([*counted, 0, 0, 0, 0])})
    found = compare(known, Window(now), DriftLimits())
    page = drift_page(found, Sides(known, with_answers, "what it learnt from", "now", classes))
    assert [name for name in drawn if f">{name}<" in page] == drawn
    assert ("70.0 %" in page) == ("The answers" in page) == bool(drawn)
