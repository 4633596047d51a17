"""The evidence that a step will need, and how long it takes at today's traffic."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest

from harness.ledgers import ledger_of
from pipeline.ledger.rollout_events import RolloutEnded
from pipeline.policy.canary import Evidence, Paired, judge
from pipeline.policy.confidence import Counted
from pipeline.policy.needed import Comparison, Traffic, Usual, needed, span, step_needs
from pipeline.rollout import logged_requests
from pipeline.rollout.slots import predictions_folder
from pipeline.serving import log_files
from pipeline.serving.prediction_log import AnsweredRequest, LogSchema
from pipeline.serving.runtime import Runtime
from pipeline.settings.rollout import FIGURES, RolloutLimits

LIMITS = RolloutLimits()
NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
OFF = dict.fromkeys(FIGURES)


def test_the_judge_promotes_with_the_needed_requests_and_holds_with_fewer():
    """What is said to be needed is what the judge wants, to one request in fifty."""
    takes = needed(LIMITS, Comparison(9, 10), Usual())
    assert set(takes) == set(FIGURES)

    def verdict(requests):
        none, same = Counted(0, requests), Paired(0, 0, requests)
        champion = Counted(0, 9 * requests)
        seen = Evidence(none, champion, none, champion, same, (same,) * 9, requests, same, (same,) * 9, none, champion)
        return judge(seen, LIMITS).verdict

    most = max(takes.values())
    assert most == takes["error_rate"]
    assert (verdict(most), verdict(int(most * 0.97))) == ("promote", "hold")


def test_limits_that_are_off_need_nothing():
    """A figure that is off is not among what is needed, and with fewer figures the others need less."""
    one = LIMITS.model_copy(update=OFF | {"churn": 0.3})
    assert list(needed(one, Comparison(9, 10), Usual())) == ["churn"]
    assert step_needs(one, Comparison(9, 10), Usual(), 0.1).requests == LIMITS.min_requests
    assert list(needed(LIMITS, Comparison(9, 10, predictions=False), Usual())) == list(FIGURES[:3])


def test_a_champion_at_its_limit_can_prove_nothing_and_it_is_said():
    """Where no number of requests is a proof, the figure says so, and it is late whatever the traffic."""
    needs = step_needs(LIMITS, Comparison(None), Usual(slow=0.02))
    assert needs.figures["p99_ms"] is None
    assert "p99_ms more than any number" in str(needs)
    assert "p99_ms" in needs.late(LIMITS, Traffic(10**9, 10**9, 24), 900)


def test_the_usual_figures_of_few_answers_are_none_yet():
    """A champion that has answered fewer requests than min_requests has no usual share."""
    assert Usual.of(Counted(1, 3), Counted(0, 3), Counted(1, 3), at_least=100) == Usual()
    assert Usual.of(Counted(4, 400), Counted(8, 400), Counted(0, 400), at_least=100) == Usual(0.01, 0, 0.02)


def test_the_time_is_that_of_the_whole_models_traffic():
    """A candidate at a tenth of the traffic needs ten times its own requests, at the model's rate."""
    needs = step_needs(LIMITS, Comparison(9, 10), Usual(), 0.1)
    day = Traffic(2_400, 2_400, 24)
    assert needs.of_model == 10 * needs.requests
    assert needs.takes_s(day) == pytest.approx(needs.of_model * 36)
    assert needs.takes_s(Traffic(0, 0, 24)) is None
    assert needs.late(LIMITS, day, 36 * 10 * 300) == ["error_rate", "p99_ms"]
    assert needs.late(LIMITS, Traffic(0, 0, 24), 1e9) == [*FIGURES, "min_requests"]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.5, "0.5 s"), (90, "90 s"), (900, "15 min"), (5400, "90 min"), (7200, "2 h"), (4e5, "4.6 d")],
)
def test_a_time_is_told_in_one_unit(seconds, told):
    """A time is told in the largest unit of which there are two."""
    assert span(seconds) == told


@pytest.fixture
def log(churn_package, tmp_path):
    """Writes requests, each (hours before now, rows), into the prediction log of a model that went live ten days ago."""
    ledger = ledger_of(tmp_path)
    ledger.append(RolloutEnded(version="1"), "churn", at=(NOW - timedelta(days=10)).isoformat())
    context = SimpleNamespace(home=tmp_path, ledger=ledger, clock=lambda: NOW)
    runtime = Runtime.load(churn_package)
    schema = LogSchema(runtime.reader, "1", "blue")
    folder = predictions_folder(tmp_path, "churn")
    parts = iter(range(100))

    def write(*requests, golden=False, process=7):
        answered = []
        for hours, rows in requests:
            parsed = runtime.reader.of_records([{"spend": 10.0, "calls": 1, "plan": "plus"}] * rows)
            at = (NOW - timedelta(hours=hours)).timestamp()
            answered.append(AnsweredRequest("same id", at, parsed, np.full(rows, 0.5), golden))
        folder.mkdir(parents=True, exist_ok=True)
        part = next(parts)
        path = folder / log_files.file_name(f"blue-v1-{process}.1", part, part)
        log_files.write(path, schema.table(answered))
        newest = max(request.received_at for request in answered)
        os.utime(path, (newest, newest))
        return context

    return write


def test_todays_traffic_is_counted_from_the_log(log):
    """The requests of the last day count, with all their rows; older ones and golden ones do not."""
    log((30, 5), (26, 1))
    log((23, 2), (5, 3), (4, 1))
    context = log((1, 7), golden=True)
    assert logged_requests.traffic(context, "churn") == Traffic(3, 6, 24.0)
    assert str(logged_requests.traffic(context, "churn")) == "the 3 requests of the last 24 h"


def test_a_model_without_requests_says_so(log):
    """Without a request in the last day, that is what is said."""
    traffic = logged_requests.traffic(log((30, 5)), "churn")
    assert (traffic.requests, str(traffic)) == (0, "no requests came in the last 24 h")


def test_a_model_that_went_live_an_hour_ago_has_an_hours_traffic(log):
    """The rate of a young model is that since it first went live."""
    context = log((0.5, 1), (0.25, 1))
    context.ledger = ledger_of(context.home / "young")
    context.ledger.append(RolloutEnded(version="1"), "churn", at=(NOW - timedelta(hours=1)).isoformat())
    assert logged_requests.traffic(context, "churn") == Traffic(2, 2, 1.0)


def test_a_large_log_is_read_only_as_far_as_it_takes(log, monkeypatch):
    """Once enough rows are read, the rate is that of the time which they cover."""
    monkeypatch.setattr(logged_requests, "MOST_ROWS", 4)
    log((20, 9))
    context = log((2, 2), (1, 2))
    assert logged_requests.traffic(context, "churn") == Traffic(2, 4, 2.0)


def test_what_several_processes_log_side_by_side_is_counted_together(log, monkeypatch):
    """The rate is that of all processes in the same time, also when the newest file alone has rows enough."""
    monkeypatch.setattr(logged_requests, "MOST_ROWS", 4)
    log(*((hours, 1) for hours in (9, 8, 7, 6, 5, 4, 3, 2)), process=7)
    context = log(*((hours, 1) for hours in (9, 8, 7, 6, 5, 4, 3, 1.5)), process=8)
    assert logged_requests.traffic(context, "churn") == Traffic(4, 4, 3.0)
