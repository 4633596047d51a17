"""Who decided, through what, and what the deployer and the log answer when they are asked from elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from harness.ledgers import ledger_of
from harness.project import CHURN, change_params
from pipeline.context import Context
from pipeline.deployer import client as clients
from pipeline.deployer.service import Service
from pipeline.errors import PerennialError
from pipeline.ledger.approval_events import Approved, Rejected
from pipeline.ledger.approvals import parked_run, standing
from pipeline.ledger.events import GatesChecked, RunOpened, VersionRegistered
from pipeline.monitoring.answered_by import AnsweredBy, answered_by
from pipeline.rollout.approval import Evidence
from pipeline.runs import approval, approval_summary
from pipeline.services import parked_task
from pipeline.serving import log_files
from pipeline.settings.environment import Environment
from pipeline.settings.faults import all_faults
from pipeline.settings.models import Model

KEY = "k" * 48
EVIDENCE = Evidence({"manifest.json": "a" * 64, "model.onnx": "b" * 64}, "d1.dir", "c0ffee", "9" * 64, "sha256:77")


class Deployer:
    """Says what it would serve now."""

    def __init__(self):
        self.now = EVIDENCE

    def evidence(self, model, version):
        return self.now

    def answered(self, model, request):
        return [AnsweredBy(model or "churn", "2", "green", "2024-03-01T00:00:00.000Z", 3)]


@pytest.fixture
def asked(project, monkeypatch):
    """(a context, the deployer) with version 1 of `churn`, which ann's run registered and asked approval for."""
    deployer = Deployer()
    monkeypatch.setattr(approval, "traffic", lambda context: deployer)
    monkeypatch.setattr("pipeline.registry.versions.Registry.anchor", lambda *_: None)
    context = replace(Context.here(), asked_by="ann")
    verdict = {"gate": "slices", "passed": True, "observed": 1.0, "limit": 2.0, "reason": "plan a|b is fine"}
    registered = VersionRegistered(
        version="1", mlflow_run="m", data_version="d1.dir", as_of="2024-03-01T00:00:00+00:00", code_revision="c0ffee"
    )
    for event in (RunOpened(as_of="t", reason="r", asked_by="ann"), GatesChecked(verdicts=[verdict]), registered):
        context.ledger.append(event, "churn", "r1")
    return context, deployer, approval.ask(context, "r1", "churn", "1", "airflow")


def answer(context, approved, by, known=True):
    return approval.answered(context, "r1", "churn", "1", approved, by, known)


def test_a_click_is_the_decision_of_the_person_who_clicked(asked):
    """Airflow's answer is written with the person's name; whoever started the run is refused where users are known."""
    context, _, _ = asked
    with pytest.raises(PerennialError, match="was asked for by ann, who may not approve it"):
        answer(context, True, "ann")
    assert answer(context, True, "bob") == f"version 1 ({EVIDENCE.digest[:12]}) approved by bob"
    (entry,) = context.ledger.events(Approved)
    assert (entry.run, entry.event.through, entry.event.digest) == ("r1", "airflow", EVIDENCE.digest)


@pytest.mark.parametrize(
    ("named", "check"),
    [(["ann"], "name another person in models.churn.approval_by"), (["ann", "bob", "cid"], "let bob, cid decide")],
)
def test_who_asked_is_told_who_may_decide(asked, named, check):
    """Where the list names nobody but who asked, the line says that it takes another name."""
    context, _, _ = asked
    change_params(context.project, "models.churn.approval", "required")
    change_params(context.project, "models.churn.approval_by", named)
    with pytest.raises(PerennialError, match=f"was asked for by ann, who may not approve it; {check}"):
        answer(replace(context), True, "ann")


def airflow(monkeypatch, status):
    """Airflow, whose task that waits answers with this status; returns what it was asked."""
    asked = []

    def answered(request):
        asked.append((str(request.url), json.loads(request.content), request.headers.get("authorization", "")))
        return (
            httpx.Response(201, json={"access_token": "t"})
            if request.url.path == "/auth/token"
            else httpx.Response(status)
        )

    client = partial(httpx.Client, transport=httpx.MockTransport(answered))
    monkeypatch.setattr(httpx, "Client", client)
    return asked


def test_on_a_server_the_command_moves_the_task_where_airflows_password_is(tmp_path, monkeypatch):
    """In the container of api-server it answers the task, in another one it says why not; a task that was answered does not wait."""
    here = Environment.read({"PERENNIAL_MODE": "server"})
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "http://api-server:8080/execution/")
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", str(tmp_path / "passwords.json"))
    asked = airflow(monkeypatch, 200)
    assert (
        parked_task.answer(here, "retrain__churn/r 1", "approve", "Approve")
        == "this container has no password of Airflow's"
    )
    (tmp_path / "passwords.json").write_text('{"admin": "secret"}')
    assert parked_task.answer(here, "retrain__churn/r 1", "approve", "Approve") == ""
    (_, logged_in, _), (url, chosen, token) = asked
    assert (logged_in, chosen, token) == (
        {"username": "admin", "password": "secret"},
        {"chosen_options": ["Approve"], "params_input": {}},
        "Bearer t",
    )
    assert url.endswith("/api/v2/dags/retrain__churn/dagRuns/r%201/taskInstances/approve/-1/hitlDetails")


@pytest.mark.parametrize(("status", "said"), [(404, None), (409, None), (403, "403 Forbidden")])
def test_a_task_that_does_not_wait_is_no_trouble(tmp_path, monkeypatch, status, said):
    """One that was answered, or is gone, needs no answer; a refusal of Airflow is told."""
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "http://api-server:8080/execution/")
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", str(tmp_path / "passwords.json"))
    (tmp_path / "passwords.json").write_text('{"admin": "secret"}')
    airflow(monkeypatch, status)
    found = parked_task.answer(Environment.read({"PERENNIAL_MODE": "server"}), "retrain__churn/r", "approve", "Approve")
    assert found is None if said is None else said in found


@pytest.mark.parametrize(
    ("block", "line"),
    [
        ({"approval": "required", "approval_by": ["bob", "bob"]}, "approval_by: named twice: bob"),
        (
            {"approval": "required", "approval_by": [" ana"]},
            "approval_by: ' ana' begins or ends with a blank, and no user's name does",
        ),
        (
            {"approval_by": ["bob"]},
            "approval_by: names who may approve, and no approval is required: set approval: required",
        ),
        ({"approval": "required", "approval_by": "bob"}, "approval_by: must be a list, like [a, b]"),
        (
            {"approval": "required", "approval_by": ["bob "]},
            "approval_by: 'bob ' begins or ends with a blank, and no user's name does",
        ),
    ],
)
def test_who_may_approve_is_a_list_of_an_approval_that_is_required(block, line):
    """A list without an approval, with a person twice, or with a name that nobody can have, is refused by its key."""
    with pytest.raises(ValidationError) as error:
        Model.model_validate(CHURN | block)
    assert all_faults(error.value, "models.churn") == [f"models.churn.{line}"]


def test_the_run_that_waits_is_the_last_that_asked_in_airflow(asked):
    """A question at the command line since then does not hide it."""
    context, _, _ = asked
    assert parked_run(context.ledger, "churn", "1") == "r1" and parked_run(context.ledger, "churn", "2") == ""
    approval.ask(context, "", "churn", "1")
    assert parked_run(context.ledger, "churn", "1") == "r1"


def test_time_rejects_in_airflow(asked):
    """An answer without a person is the time's: it rejects, and says the key."""
    context, _, _ = asked
    over = replace(context, clock=lambda: context.clock() + timedelta(hours=72, seconds=1))
    assert answer(over, False, "") == "version 1 rejected: nobody answered within 72 hours (approval_hours)"
    assert context.ledger.events(Rejected)[0].event.through == "time"


def test_the_time_of_a_run_does_not_end_that_of_a_later_question(asked):
    """Who asks again by command gives the whole time again; the run that asked first ends without a rejection."""
    context, _, _ = asked
    over = replace(context, clock=lambda: context.clock() + timedelta(hours=72, seconds=1))
    again = approval.ask(replace(over, asked_by="ann"), "", "churn", "1").event.until
    assert answer(over, False, "") == f"version 1 was asked for again, until {again}; this run does not wait for that"
    assert context.ledger.events(Rejected) == [] and approval.approve(over, "", "churn", "1", approval.Person("bob"))


def test_an_approval_has_a_name(asked):
    """What Airflow was answered by nobody that it names approves nothing."""
    context, _, _ = asked
    for name in ("", "  "):
        with pytest.raises(
            PerennialError, match="version 1 of churn: may not be approved without a name; name the person"
        ):
            answer(context, True, name)
    assert context.ledger.events(Approved, Rejected) == []


def test_a_decision_at_the_command_line_is_not_written_again_by_the_task_that_it_moves(asked):
    """The task that goes on finds the decision, whichever answer Airflow has."""
    context, _, _ = asked
    approval.reject(context, "", "churn", "1", approval.Person("bob"), "not today")
    assert answer(context, True, "admin") == "version 1 rejected by bob: not today"
    assert context.ledger.events(Approved) == [] and len(context.ledger.events(Rejected)) == 1


def test_a_second_try_of_the_task_that_asked_keeps_to_the_rejection(asked):
    """Until somebody asks again; another run's task asks for itself."""
    context, _, _ = asked

    def found(run):
        return approval.rejected_since_asked(context.ledger, "churn", "1", run)

    assert found("r1") == ""
    approval.reject(context, "", "churn", "1", approval.Person("bob"), "not today")
    assert (found("r1"), found("r2")) == ("version 1 rejected by bob: not today", "")
    approval.ask(context, "", "churn", "1")
    assert found("r1") == ""


@pytest.mark.parametrize("name", ["Ann", " ann", "ANN ", "an\u200bn", "\uff41nn"])
def test_who_asked_may_not_approve_under_another_spelling(asked, name):
    """Case, blanks, letters that cannot be seen and other forms of a letter make no other person."""
    context, _, _ = asked
    with pytest.raises(PerennialError, match="was asked for by ann, who may not approve it, nor as"):
        answer(context, True, name)


def test_who_started_the_run_may_not_approve_though_another_person_asked_again(asked):
    """Both may not: the one whose run it is, and the one who asked last; a third may."""
    context, _, _ = asked
    approval.ask(replace(context, asked_by="bob"), "", "churn", "1")
    for name in ("ann", "bob"):
        with pytest.raises(PerennialError, match=f"was asked for by {name}, who may not approve it"):
            answer(context, True, name)
    assert answer(context, True, "cid").endswith("approved by cid")


def test_a_rejection_stands_beside_an_approval_that_was_on_its_way(asked, monkeypatch):
    """Two people decide at once: the one who approved is told of the rejection, and only a new question opens the version again."""
    context, deployer, _ = asked

    def evidence(model, version):
        approval.reject(context, "", "churn", "1", approval.Person("cid"), "unfair")
        return EVIDENCE

    monkeypatch.setattr(deployer, "evidence", evidence)
    with pytest.raises(PerennialError, match="was rejected by cid: unfair; ask again"):
        approval.approve(context, "", "churn", "1", approval.Person("bob", known=True))
    assert standing(context.ledger, "churn", "1").approved is None


def test_what_changed_between_question_and_answer_is_not_approved(asked):
    """Nobody approves another thing than what was shown; each part that changed is named."""
    context, deployer, _ = asked
    files = {**EVIDENCE.files, "model.onnx": "f" * 64}
    deployer.now = replace(EVIDENCE, files=files, gate_report="8" * 64)
    with pytest.raises(PerennialError) as error:
        answer(context, True, "bob")
    assert str(error.value) == (
        "version 1 of churn: changed since it was asked for: package: model.onnx has digest ffffffffffff, but bbbbbbbbbbbb "
        "was approved; gate report: gates.json has digest 888888888888, but 999999999999 was approved; "
        "ask again: `perennial approve churn 1 --ask`"
    )


def test_data_and_code_are_those_that_were_registered(asked):
    """A version whose tags in MLflow name other data than the ledger cannot be asked about."""
    context, deployer, _ = asked
    deployer.now = replace(EVIDENCE, data_version="d2.dir")
    with pytest.raises(PerennialError, match="its data version in MLflow is d2.dir, and it was registered with d1.dir"):
        approval.ask(context, "r1", "churn", "1")


def test_who_is_asked_sees_the_verdicts_and_where_to_look(asked):
    """The text has a row for each gate, which no cell can break, what is approved, who asked, and the audit's address."""
    context, _, entry = asked
    here = replace(context, environment=replace(context.environment, airflow="http://airflow:8080"))
    text = approval_summary.body(here, "churn", entry)
    assert "| slices | passed | plan a\\|b is fine |" in text.splitlines()
    assert EVIDENCE.digest in text and "Asked by ann." in text and "`d1.dir`" in text
    for link in (
        "[gates' report](http://airflow:8080/perennial/gates/r1)",
        "[model card](http://airflow:8080/perennial/card/churn/1)",
    ):
        assert link in text, "what is approved can be read in full before it is"
    assert "[audit](http://airflow:8080/perennial/audit/churn)" in text
    assert "`perennial audit churn`" in approval_summary.body(context, "churn", entry)


def test_on_a_server_the_deployer_says_what_it_would_serve_and_who_answered(tmp_path, monkeypatch):
    """Both verbs give through the service what they give in this process."""
    context = Context(Environment.read().at(tmp_path, tmp_path), ledger_of(tmp_path))
    http = TestClient(Service(context, Deployer(), KEY).app(), base_url="http://deployer")

    def request(method, url, timeout, verify, **more):
        return http.request(method, url, **more)

    monkeypatch.setattr(clients.httpx, "request", request)
    remote = clients.RemoteTraffic("http://deployer", KEY)
    assert remote.evidence("churn", "1") == EVIDENCE
    assert remote.answered("", "q1") == Deployer().answered("", "q1")


def test_the_log_knows_which_version_answered_a_request(tmp_path):
    """A request's rows are counted in every model's log; golden requests and those of a shadow are no answers of users."""
    at = datetime(2024, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
    rows = [("q1", "2", False), ("q1", "2", False), ("q2", "3", False), ("q1", "2", True)]
    for folder in (tmp_path / "churn", tmp_path / "churn" / "shadow"):
        folder.mkdir()
        columns = {
            "request_id": [row[0] for row in rows],
            "version": [row[1] for row in rows],
            "golden": [row[2] for row in rows],
            "slot": ["green"] * 4,
            "key": ["a"] * 4,
            "event_time": [None] * 4,
            "received_at": pa.array([at] * 4, pa.timestamp("ms", tz="UTC")),
            "prediction": [0.5] * 4,
        }
        pq.write_table(pa.table(columns), folder / log_files.file_name("green-v2-1", 0, 0))
    (tmp_path / "asked-nothing").mkdir()
    expected = [AnsweredBy("churn", "2", "green", "2024-03-01T12:00:00.250Z", 2)]
    assert answered_by(tmp_path, "q1") == answered_by(tmp_path, "q1", "churn") == expected
    assert answered_by(tmp_path, "q1'; DROP TABLE x --") == answered_by(tmp_path, "q1", "nobody") == []
