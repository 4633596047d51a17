"""A model's status as JSON: the form that pages, command line and the deployer's callers read."""

import json
from dataclasses import replace

import pytest

from pipeline.cli import tables
from pipeline.deployer.model_status import CandidateStatus, LiveStatus, ModelStatus, PredecessorStatus, TrafficShare
from pipeline.deployer.status import _without_verdict
from pipeline.ledger.events import DriftChecked
from pipeline.pages import overview

AT = "2026-01-02T03:04:05.678Z"
NOTHING_LIVE = ModelStatus("churn", "who leaves", "http://127.0.0.1:8000/churn/invocations")
IN_A_CANARY = ModelStatus(
    "churn",
    "who leaves",
    "http://127.0.0.1:8000/churn/invocations",
    LiveStatus("1", "blue", AT, answers=True, ledger_agrees=True),
    PredecessorStatus("3", "green", warm=False),
    CandidateStatus("2", "green", 7, mirror=False, since=AT, answers=True, follow=None),
    (TrafficShare("1", 93, AT), TrafficShare("2", 7, AT)),
    undo="rollback churn",
    baking="2",
    holds="at least 100 requests wanted",
    registry=("churn: MLflow's alias champion is gone",),
    limits_off=("p99_ms",),
    evidence="a proof takes at least 1,424 requests",
    log="damaged files of the prediction log: 1",
    label_delay_s={"median": 3600, "p95": 864_000},
    no_verdict="no verdict on drift as of 2026-01-02T00:00, so nobody knows whether it drifts: 12 rows now",
)


def test_the_json_has_the_keys_that_readers_know():
    """The JSON of a status has the keys, and the order of keys, that it had before the status was a class."""
    assert json.dumps(IN_A_CANARY.as_dict()) == (
        '{"model": "churn", "description": "who leaves", "address": "http://127.0.0.1:8000/churn/invocations", '
        f'"live": {{"version": "1", "slot": "blue", "since": "{AT}", "answers": true, "ledger_agrees": true, "why_not": null, '
        '"what_helps": null}, '
        '"previous": {"version": "3", "slot": "green", "warm": false}, '
        f'"candidate": {{"version": "2", "slot": "green", "percent": 7, "mirror": false, "since": "{AT}", '
        '"answers": true, "follow": null}, '
        f'"shares": [{{"version": "1", "percent": 93, "since": "{AT}"}}, '
        f'{{"version": "2", "percent": 7, "since": "{AT}"}}], '
        '"problem": null, "undo": "rollback churn", "baking": "2", "holds": "at least 100 requests wanted", '
        '"note": null, "fault": null, "registry": ["churn: MLflow\'s alias champion is gone"], "limits_off": ["p99_ms"], '
        '"evidence": "a proof takes at least 1,424 requests", "log": "damaged files of the prediction log: 1", '
        '"label_delay_s": {"median": 3600, "p95": 864000}, "scored": null, '
        '"no_verdict": "no verdict on drift as of 2026-01-02T00:00, so nobody knows whether it drifts: 12 rows now", '
        '"frozen": null, "burning": null}'
    )


def test_the_table_says_which_limits_are_off_and_what_a_step_needs():
    """`status` names the limits that are off, what the step that is going on needs, and that the log is damaged."""
    lines = tables.status([IN_A_CANARY]).splitlines()
    assert "churn: rollout.limits: p99_ms off" in lines
    assert "churn: a proof takes at least 1,424 requests" in lines
    assert "churn: damaged files of the prediction log: 1" in lines


def test_no_verdict_is_never_calm():
    """Table and page say that nobody knows whether there is drift, and why; of any verdict the table says nothing."""
    said = "no verdict on drift as of 2026-01-02T00:00, so nobody knows whether it drifts: 12 rows now"
    assert f"churn: {said}" in tables.status([IN_A_CANARY]).splitlines()
    assert "drift" not in tables.status([NOTHING_LIVE])
    drift = {"as_of": AT, "verdict": "no verdict", "reason": "12 rows now", "moved": [], "report_name": None}
    shown = page(NOTHING_LIVE, drift)
    assert '<b class="bad">no verdict</b>' in shown
    assert "(nobody knows whether it drifts: 12 rows now)" in shown


@pytest.mark.parametrize(
    ("verdicts", "said"), [([], False), (["no verdict"], True), (["no verdict", "no drift"], False)]
)
def test_the_newest_check_counts(ledger, verdicts, said):
    """A status says that there is no verdict when the newest drift check had none."""
    for verdict in verdicts:
        checked = {"verdict": verdict, "reason": "12 rows now", "champion": "1", "as_of": AT}
        ledger.append(DriftChecked.read(checked), "churn", "r")
    assert ("churn" in _without_verdict(ledger, ["churn", "other"])) == said


def test_table_and_page_say_how_long_labels_take():
    """With median and 95 %, or that it is not known; nothing for a model without label times or snapshots."""
    assert "churn: label delay 1 hour (median), 95 % within 10 days" in tables.status([IN_A_CANARY]).splitlines()
    assert "Label delay 1 hour (median), 95 % within 10 days." in page(IN_A_CANARY)
    unknown = replace(NOTHING_LIVE, label_delay_s={"median": None, "p95": None})
    assert "churn: label delay not known: fewer than 20 labelled rows in" in tables.status([unknown])
    assert "Label delay not known: fewer than 20 labelled rows in" in page(unknown)
    assert "abel delay" not in tables.status([NOTHING_LIVE]) + page(NOTHING_LIVE)


def test_the_page_has_the_notes_of_the_last_drift_check():
    """A span that labels do not reach is said beside the verdict; an older check has no notes."""
    drift = {"as_of": "2024-03-01", "verdict": "no drift", "moved": [], "report_name": None}
    assert "no drift" in page(NOTHING_LIVE, drift)
    assert "its first labels are due" in page(NOTHING_LIVE, {**drift, "notes": ["its first labels are due"]})


def test_the_page_says_what_the_last_look_saw_and_why_no_retrain_was_asked_for():
    """The sentence is in red for an alarm; a look that asks, or an older one, has no such reason."""
    drift = {"as_of": "2024-05-13", "verdict": "drift", "moved": ["spend"], "report_name": None, "decision": "wait"}
    reasons = ["inputs: drift", "live quality: unknown", "alarm: version 3 is still live"]
    shown = page(NOTHING_LIVE, {**drift, "said": "spend changed", "receipt": {"reasons": reasons}})
    assert '<p class="bad">Spend changed.</p>' in shown and "No retrain: version 3 is still live." in shown
    asks = page(NOTHING_LIVE, {**drift, "said": "spend changed", "receipt": {"reasons": reasons[:2]}})
    assert "No retrain" not in asks + page(NOTHING_LIVE, drift)


def page(status, drift=None):
    nothing = {"runs": [], "moves": [], "roi": None, "faults": [], "more_moves": False, "asked_at": ""}
    return overview.shown({**nothing, "models": [{**status.as_dict(), "drift": drift}]})


def test_table_and_page_say_what_helps_a_live_version_that_does_not_answer():
    """The command is the status's own: none is right for every cause."""
    for command in ("reconcile", "make up", "docker compose up -d"):
        live = replace(IN_A_CANARY.live, answers=False, why_not="it is away", what_helps=command)
        silent = replace(IN_A_CANARY, live=live)
        assert f"churn: does not answer: it is away; run `{command}`" in tables.status([silent]).splitlines()
        assert f"does not answer (it is away): run <code>{command}</code>" in page(silent)


@pytest.mark.parametrize("status", [NOTHING_LIVE, IN_A_CANARY])
def test_a_status_comes_through_the_deployer_unchanged(status):
    """A status that went through JSON is equal to the one that was sent."""
    assert ModelStatus.from_dict(json.loads(json.dumps(status.as_dict()))) == status
