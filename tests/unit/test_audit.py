"""The audit tells who or what did what, on which evidence, from the ledger alone."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pipeline.cli import audit_table
from pipeline.context import Context
from pipeline.errors import SettingsError
from pipeline.ledger import settings_record
from pipeline.ledger.approval_events import ApprovalAsked, Approved, DeployRefused, OtherImage, SettingsChanged
from pipeline.ledger.events import AnchorsAccepted, GatesChecked, RunOpened, VersionRegistered
from pipeline.ledger.rollout_events import RollbackStarted, RolledBack, RolloutEnded, RolloutStarted, SlotReady
from pipeline.monitoring.answered_by import AnsweredBy
from pipeline.pages import audit as audit_module
from pipeline.pages.audit import audit_page
from pipeline.runs import audit
from pipeline.runs.audit_newest import newest_lines

EVIDENCE = {"version": "2", "digest": "e" * 64, "parts": {"package": "p2", "data_version": "d2.dir"}}


@pytest.fixture
def told(project):
    """A context with a ledger in which version 2 was registered, approved, deployed with a schema change, and rolled back."""
    context = Context.here()
    ledger = context.ledger
    failed = {"gate": "slices", "passed": False, "mode": "warn", "reason": "plan basic is worse"}
    for event, run in (
        (RunOpened(as_of="2024-03-01", reason="by hand", asked_by="ann"), "r2"),
        (
            GatesChecked(verdicts=[failed, {**failed, "mode": "on", "passed": True}, {**failed, "mode_is_set": False}]),
            "r2",
        ),
        (VersionRegistered(version="2", mlflow_run="m2", data_version="d2.dir", as_of="2024-03-01"), "r2"),
        (ApprovalAsked(**EVIDENCE, asked_by="ann"), "r2"),
        (DeployRefused(version="2", why="is not approved", asked_by="cid"), ""),
        (Approved(**EVIDENCE, by="bob", reason="fine"), ""),
        (
            RolloutStarted(
                version="2",
                digest="p2",
                reason="by hand; schema change accepted: column plan is new",
                asked_by="cid",
                rollout=7,
            ),
            "",
        ),
        (RolloutEnded(version="2", slot="green", digest="p2", rollout=7), ""),
        (RollbackStarted(version="1", digest="p1", left="2", rollout=8), "monitor__churn/1"),
        (RolledBack(version="1", digest="p1", left="2", reason="worse on labels", rollout=8), "monitor__churn/1"),
    ):
        ledger.append(event, "churn", run)
    ledger.append(AnchorsAccepted(reason="restored", anchors=("1:ab",)))
    ledger.append(RolloutEnded(version="9", slot="blue"), "another")
    return context


def test_each_thing_that_was_done_has_its_person_and_its_evidence(told):
    """Every kind is told of this model alone, with the event's hash; a rollout names its approval, and a person its name."""
    lines = audit.audit(told.ledger, "churn")
    entries = {entry.seq: entry for entry in told.ledger.events()}
    assert all(entries[line.evidence["event"]].hash == line.evidence["hash"] for line in lines)
    assert [(line.kind, line.version, line.who) for line in lines] == [
        ("override", "", "ann"),
        ("registration", "2", "ann"),
        ("approval", "2", "ann"),
        ("rollout", "2", "cid"),
        ("approval", "2", "bob"),
        ("rollout", "2", "cid"),
        ("override", "2", "cid"),
        ("rollout", "2", "cid"),
        ("rollback", "1", audit.ITSELF),
        ("rollback", "1", audit.ITSELF),
        ("override", "", audit.ITSELF),
    ]
    gate, registered, _, refused, approved, *_, live, _, back, _ = lines
    assert gate.what == "gate slices failed and only warns (gates.modes): plan basic is worse"
    assert (registered.evidence["mlflow_run"], registered.evidence["gates_event"]) == ("m2", gate.evidence["event"])
    assert refused.what == "version 2 was not deployed: is not approved"
    assert (live.evidence["package"], live.evidence["approved_by"]) == ("p2", "bob")
    assert live.evidence["approval_event"] == approved.evidence["event"]
    assert "approved_by" not in back.evidence


def test_a_kind_is_told_alone_and_an_unknown_one_is_refused(told):
    """`--kind` filters; a kind that there is not is a setting that is refused with those that there are."""
    lines = audit.audit(told.ledger, "churn", "override")
    assert [line.what.partition(":")[0] for line in lines[1:]] == [
        "version 2",
        "1 anchors that the ledger does not agree with were accepted",
    ]
    with pytest.raises(SettingsError, match="kind x: is not known; must be one of registration, approval"):
        audit.audit(told.ledger, "churn", "x")


def test_an_older_version_that_a_person_brought_over_a_younger_one_is_an_override(told):
    """By name alone: a run is never let do that, and a younger version over an older one overrides nothing."""
    registered = VersionRegistered(version="3", mlflow_run="m3", data_version="d3.dir", as_of="2024-04-01")
    told.ledger.append(registered, "churn", "r3")
    for version, before, run in (("2", "3", ""), ("3", "2", ""), ("2", "3", "r9")):
        told.ledger.append(
            RolloutStarted(version=version, before=before, reason="by hand", asked_by="cid"), "churn", run
        )
    assert [(line.who, line.what) for line in audit.audit(told.ledger, "churn", "override")[3:]] == [
        ("cid", "version 2, as of 2024-03-01, by name over version 3, as of 2024-04-01")
    ]


def test_a_changed_block_is_told_once_with_each_key_before_and_after(told, monkeypatch):
    """The first use of a changed block is the change; the same block again, and a default that is stated, is none."""
    monkeypatch.setattr(settings_record, "params_author", lambda project: ("ann <a@b.c>", "c0ffee"))
    model = told.params.model("churn")
    changed = model.model_copy(update={"approval": "required"})
    for block in (model, model, changed, changed, model.model_copy(update={"approval": "none"})):
        settings_record.note(told.ledger, "churn", block, told.project, "r3", "cid")
    events = [entry.event for entry in told.ledger.events(SettingsChanged)]
    assert [dict(event.changed) for event in events] == [
        {},
        {"approval": [None, "required"]},
        {"approval": ["required", None]},
    ]
    (_, line, _) = audit.audit(told.ledger, "churn", "settings")
    assert (line.who, line.what) == ("cid", "settings changed: approval none -> required")
    assert (line.evidence["params_author"], line.evidence["params_commit"]) == ("ann <a@b.c>", "c0ffee")


def test_a_prediction_leads_to_its_version_its_data_and_who_approved_it(told, monkeypatch):
    """What the ledger had when the request came counts: not what the number came to mean later."""
    at = told.ledger.events(RolloutEnded, model="churn")[-1].at
    later = VersionRegistered(version="2", mlflow_run="m9", data_version="d9.dir", as_of="2025-01-01")
    told.ledger.append(later, "churn", "r9", at="2999-01-01T00:00:00.000Z")
    answered = AnsweredBy("churn", "2", "green", at, 3)

    class Log:
        def answered(self, model, request):
            return [answered] if (model, request) == ("", "q1") else []

    monkeypatch.setattr(audit, "traffic", lambda context: Log())
    (found,) = audit.request(told, "q1")
    assert (found.answered, found.package) == (answered, "p2")
    assert (found.registered["data_version"], found.registered["mlflow_run"]) == ("d2.dir", "m2")
    assert (found.approved["by"], found.approved["reason"]) == ("bob", "fine")
    assert found.other_image is None
    with pytest.raises(Exception, match="request q2: is in no prediction log; give the answer's header x-request-id"):
        audit.request(told, "q2")


def test_a_request_of_a_canary_leads_to_the_version_that_answered_it(told, monkeypatch):
    """While two versions share the traffic each answer is its own version's, with its package and approval, and with the image that is not the approved one."""
    ledger = told.ledger
    first = {**EVIDENCE, "version": "3", "parts": {"package": "p3"}}
    ledger.append(Approved(**first, by="bob"), "churn", at="2999-01-01T00:00:00+00:00")
    ledger.append(RolloutEnded(version="3", slot="blue", digest="p3"), "churn", at="2999-01-01T00:00:01+00:00")
    ledger.append(SlotReady(version="3", slot="blue"), "churn", at="2999-01-01T00:00:02+00:00")
    other = OtherImage(version="3", slot="blue", approved="sha256:77", image="sha256:78", why="it is gone")
    ledger.append(other, "churn", at="2999-01-01T00:00:02+00:00")
    fourth = {**EVIDENCE, "version": "4", "parts": {"package": "p4"}}
    ledger.append(Approved(**fourth, by="cid"), "churn", at="2999-01-01T00:00:03+00:00")
    ledger.append(RolloutStarted(version="4", slot="green", digest="p4"), "churn", at="2999-01-01T00:00:04+00:00")
    ledger.append(SlotReady(version="4", slot="green"), "churn", at="2999-01-01T00:00:05+00:00")
    answers = [AnsweredBy("churn", v, s, "2999-01-01T00:00:06.250Z", 1) for v, s in (("3", "blue"), ("4", "green"))]
    monkeypatch.setattr(audit, "traffic", lambda context: SimpleNamespace(answered=lambda *_: answers))
    one, two = audit.request(told, "q")
    assert [(each.package, each.approved["by"]) for each in (one, two)] == [("p3", "bob"), ("p4", "cid")]
    assert (one.other_image["image"], two.other_image) == ("sha256:78", None)
    assert "served by image sha256:78, and sha256:77 was approved: it is gone" in audit_table.request("q", [one, two])


def test_the_page_filters_by_kind_and_escapes_what_people_wrote(told):
    """The page has the lines of one kind, the newest first, and no markup of a reason; an unknown model or kind is refused."""
    event = Approved(**EVIDENCE, by="<script>", reason="<b>fine</b>")
    told.ledger.append(event, "churn")
    page = audit_page(told, "churn", "approval")
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert page.index("&lt;script&gt;") < page.index("approved by bob")
    assert "was not deployed" not in page and "was not deployed" in audit_page(replace(told), "churn")
    assert 'href="?kind=rollback"' in page
    for model, kind in (("nobody", ""), ("churn", "x")):
        with pytest.raises(SettingsError):
            audit_page(told, model, kind)


@pytest.mark.parametrize("kind", ["", *audit.KINDS])
def test_page_by_page_the_audit_is_that_of_all_events(told, kind):
    """The newest lines and those before them are the same lines as from the first event on, and each page has the counts of all."""
    for version, as_of in (("3", "2024-05-01"), ("4", "2024-04-01")):
        told.ledger.append(
            GatesChecked(verdicts=[{"gate": "g", "passed": True, "mode": "warn"}]), "churn", f"r{version}"
        )
        registered = VersionRegistered(version=version, mlflow_run="m", data_version="d", as_of=as_of)
        told.ledger.append(registered, "churn", f"r{version}")
    told.ledger.append(RolloutStarted(version="4", before="3", asked_by="eve", rollout=9), "churn")
    told.ledger.append(RolloutEnded(version="4", slot="blue", digest="p4", rollout=9), "churn")
    whole = audit.audit(told.ledger, "churn", kind)
    counts = {name: len(audit.audit(told.ledger, "churn", name)) for name in audit.KINDS}
    for count in (1, 2, 3, 100):
        found, before, older = [], 0, True
        while older:
            page = newest_lines(told.ledger, "churn", kind, count, before)
            assert page.counts == counts, count
            found, before, older = [*page.lines, *found], page.before, page.older
        assert found == whole, count


def test_the_page_leads_to_what_is_older(told, monkeypatch):
    """Where there is more than is shown the page says so with a link, and the older page leads back."""
    monkeypatch.setattr(audit_module, "SHOWN", 3)
    first = audit_page(told, "churn")
    (before,) = re.findall(r'href="\?before=(\d+)">older', first)
    assert 'id="more">The newest' in first and ">newest</a>" in audit_page(told, "churn", before=int(before))
