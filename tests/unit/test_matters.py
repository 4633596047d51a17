"""Which events are matters: how severe each is, what it says, and what to do next."""

import json
from dataclasses import replace

import pytest

from harness.ledgers import ledger_of
from pipeline.ledger.events import DriftChecked, GatesChecked, LedgerVerified
from pipeline.ledger.rollout_events import RolledBack, RolloutFailed
from pipeline.ledger.slo_events import BudgetBurning, DiskNearlyFull
from pipeline.ledger.store import Entry
from pipeline.notices.matters import matters_of

BURNS = BudgetBurning(objective="p95_ms", severity="critical", rate=19, hours=1, reason="96 of 100 were slower")


SINCE = "2024-03-01T00:00:00+00:00"
STOPPED = {"verdict": "alarm", "reason": "0 in the last 24 hours, 200 are usual there", "since": SINCE}
UNUSUAL = {"unusual": ["2024-02-27", "2024-02-28"]}


def verdict(gate, passed, mode="on"):
    return {"gate": gate, "passed": passed, "reason": f"{gate} says so", "mode": mode}


def drift(ended="", since=SINCE):
    alarm = {"since": since, "ended": ended}
    return DriftChecked(verdict="drift", reason="spend moved", champion="1", as_of="2024-03-02", alarm=alarm)


def look(**seen):
    return DriftChecked(verdict="no drift", reason="", champion="1", as_of="2024-03-02", **seen)


@pytest.mark.parametrize(
    ("event", "severity", "said", "next_step"),
    [
        (drift(), "warning", "drift alarm: drift: spend moved", "perennial decide churn"),
        (look(data=STOPPED), "warning", "requests do not come as usual: 0 in the last 24 hours", "perennial drift churn"),
        (look(quarantine=UNUSUAL), "warning", "in quarantine: those of 2024-02-27, 2024-02-28", "perennial drift churn"),
        (look(source={"unusual": {"2024-02-27": [4, 90.0]}}), "warning", "used to have: 4 on 2024-02-27 (90 are usual)", "perennial drift churn"),
        (GatesChecked(verdicts=[verdict("champion", False), verdict("schema", True)]), "warning", "1 of 2 gates failed", "perennial timeline churn"),
        (RolledBack(version="1", slot="blue", left="2", reason="labels have matured"), "critical", "version 2 was rolled back", "perennial deploy churn 2"),
        (RolledBack(version="1", slot="blue", left="2", reason="odd answers", asked_by="ann"), "info", "odd answers", "perennial timeline churn"),
        (RolledBack(version="1", slot="blue", left="2", reason="version 2 failed: model churn: was called back by hand"), "info", "by hand", "perennial timeline churn"),
        (RolledBack(version="1", slot="blue", left="2", reason="by hand"), "info", "version 2 was rolled back", "perennial deploy churn 2"),
        (RolloutFailed(version="2", error="not ready"), "warning", "version 2 did not go live", "perennial deploy churn 2"),
        (BURNS, "critical", "96 of 100 were slower", "perennial slo churn"),
        (DiskNearlyFull(folder="/home", free_share=0.04, free_mb=900, limit=0.1), "critical", "disk nearly full: 4.0%", "du -xsh /home"),
        (LedgerVerified(intact=False, events=9, problem="event 4 was changed"), "critical", "event 4 was changed", "perennial verify"),
    ],
)  # fmt: skip
def test_a_matter_has_a_severity_a_sentence_and_a_next_step(tmp_path, event, severity, said, next_step):
    """Each kind of matter says what was seen, how severe it is, and the command that helps."""
    (matter,) = matters_of(ledger_of(tmp_path).append(event, "churn", "run"))
    assert (matter.severity, said in matter.said, next_step in matter.text) == (severity, True, True), matter


def test_a_version_that_waits_for_approval_is_a_matter():
    """A version that waits for a person's approval is told with the command that gives it."""
    body = json.dumps({"version": "3", "digest": "d1"})
    (matter,) = matters_of(Entry(7, "2024-03-01T00:00:00Z", "churn", "run", "approve", "approval_asked", body, ""))
    assert (matter.severity, "version 3 waits for approval" in matter.said) == ("warning", True)
    assert matter.next_step.startswith("perennial approve churn 3")


@pytest.mark.parametrize(
    "event",
    [
        drift(ended="2024-03-03"),
        look(),
        look(data={**STOPPED, "verdict": "usual"}, quarantine={"unusual": []}, source={"unusual": {}}),
        GatesChecked(verdicts=[verdict("champion", False, "warn"), verdict("schema", True)]),
        LedgerVerified(intact=True, events=9),
        # The event `rolled_back` before it says so.
        RolloutFailed(version="2", error="too many errors", rolled_back=True),
    ],
)
def test_what_is_well_is_no_matter(tmp_path, event):
    """A quiet check, an alarm that ended, gates that passed or only warn, and an intact chain tell nobody."""
    assert matters_of(ledger_of(tmp_path).append(event, "churn", "run")) == []


def test_requests_that_stop_in_a_drift_alarm_are_a_second_matter(tmp_path):
    """Each has a key of its own since the look that raised it, so that neither hides the other and both are told once."""
    ledger, event = ledger_of(tmp_path), replace(drift(), data=STOPPED, quarantine=UNUSUAL)
    first, again = (matters_of(ledger.append(event, "churn", "run")) for _ in range(2))
    keys = [matter.key for matter in first]
    assert len(set(keys)) == 3 and keys == [matter.key for matter in again]
