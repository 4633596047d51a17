"""Notices arrive as mail and at a webhook, through the real apprise."""

import json
import sqlite3
import time
from contextlib import suppress
from types import SimpleNamespace

from harness.ledgers import ledger_of
from harness.project import change_params
from pipeline.cli.main import main
from pipeline.context import Context
from pipeline.errors import LedgerError
from pipeline.gates.base import Verdict
from pipeline.ledger.approval_events import ApprovalAsked
from pipeline.ledger.events import DriftChecked, LedgerVerified
from pipeline.ledger.rollout_events import RolledBack, RolloutFailed
from pipeline.ledger.slo_events import BudgetBurning, NoticeFailed, NoticeSent
from pipeline.notices import sending, teller
from pipeline.notices.teller import Teller
from pipeline.policy.service_levels import Counted
from pipeline.reliability.counts import Cell, Counts
from pipeline.reliability.judging import Judge
from pipeline.runs import steps
from pipeline.runs.ledger_check import verify_daily
from pipeline.settings.environment import Environment
from pipeline.settings.read_again import ReadAgain
from pipeline.settings.slo import Slo
from tests.support.mail import mail_server, webhook

BURNS = BudgetBurning(
    objective="p95_ms", severity="critical", rate=19, hours=1, reason="96 of 100 <b>were</b> slower ü"
)


def until(one, condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        one.look()
        time.sleep(0.02)


def test_mail_and_webhook_are_told_and_an_outage_of_one_loses_nothing(project, monkeypatch):
    """Both get the sentence and the next step; while the webhook refuses, mail goes on, and the webhook gets all of it later, once."""
    monkeypatch.setattr(teller, "PAUSE_S", 0.05)
    with mail_server() as mail, webhook() as hook:
        monkeypatch.setenv("NOTIFY_MAIL", f"mailto://127.0.0.1:{mail.port}?from=p@example.com&to=ann@example.com")
        to = [{"url": hook.url}, {"url": "NOTIFY_MAIL", "severities": ["critical"]}, {"url": "slack://a/b/c"}]
        # The disk of the machine that tests run on is no matter here.
        change_params(project, "notify", {"to": to, "disk_free": 0})
        ledger = ledger_of(project / "home")
        one = Teller(ledger, ReadAgain(project).read, project / "home")
        one.look()
        hook.code = 500
        ledger.append(BURNS, "churn")
        until(one, lambda: len(mail.messages) == 1 and hook.refused > 1)
        ledger.append(LedgerVerified(intact=False, events=9, problem="event 4 was changed"))
        until(one, lambda: len(mail.messages) == 2)
        hook.code = 200
        until(one, lambda: len(ledger.events(NoticeSent)) == 4)
        again = Teller(ledger, ReadAgain(project).read, project / "home")
        again.look()
        again.look()
    message = mail.messages[0]
    assert message["subject"] == "[critical] churn"
    assert message["to"].endswith("ann@example.com") or "ann@example.com" in message["to"]
    text = message.get_body(("plain",)).get_content()
    assert "96 of 100 <b>were</b> slower ü" in text and "Next: perennial slo churn" in text
    assert [(body["title"], body["type"]) for body in hook.bodies] == [
        ("[critical] churn", "failure"),
        ("[critical] Perennial", "failure"),
    ]
    assert "perennial verify" in hook.bodies[1]["message"]
    (failed,) = ledger.events(NoticeFailed)
    assert "500" in failed.event.why
    for teller_ in (one, again):
        teller_.close()


def what_happens(context, counts):
    """Each of the seven kinds twice, as the product notes it: what was seen again, by another model's monitor, or goes on."""
    (validation := context.home / "validation.json").write_text("{}")
    ledger, alarm = context.ledger, {"since": "2024-03-01", "start": "2024-02-23", "features": {"spend": "2024-03-01"}}
    judge, minute = Judge(ledger, counts), int(time.time()) // 60 * 60
    slow = Counted(checks=6, up=6, requests=100, latencies={0.4: 100})
    counts.write({Cell("churn", "2", minute - 60 * n): slow for n in range(30)}, {}, minute)
    opened = SimpleNamespace(files=SimpleNamespace(validation=validation), as_of="t", model="churn", run="r1")
    with sqlite3.connect(context.home / "ledger.db") as database:
        database.execute("UPDATE events SET step = 'other' WHERE seq = 1")
    for as_of in ("2024-03-02", "2024-03-03"):
        ledger.append(
            DriftChecked(verdict="drift", reason="spend moved", champion="1", as_of=as_of, alarm=alarm), "churn"
        )
        steps._record_verdicts(context, opened, [Verdict("champion", False, 0.4, 0.3, "it is worse")])
        judge.look("churn", Slo(p95_ms=100), "2", minute)
        with suppress(LedgerError):
            verify_daily(context, "monitor", "churn" if as_of[-1] == "2" else "other")
    ledger.append(ApprovalAsked(version="3", digest="d", until="2030-01-01T00:00:00+00:00"), "churn")
    why = "an error budget burns within rollout.keep_hours"
    ledger.append(RolledBack(version="1", slot="blue", left="2", reason=why), "churn")
    ledger.append(RolloutFailed(version="2", error=why, rolled_back=True), "churn")


def test_each_of_the_seven_kinds_is_told_once_to_whom_it_concerns(project, monkeypatch):
    """Drift, a failed gate, an approval that waits, a rollback, a burnt budget, a full disk and a broken chain, each with what to do next."""
    home = project / "home"
    monkeypatch.setattr(sending, "MOST_SINGLE", 99)
    with webhook() as every, webhook() as severe, webhook() as other:
        to = [
            {"url": every.url},
            {"url": severe.url, "models": ["churn"], "severities": ["critical"]},
            {"url": other.url, "models": ["other"]},
        ]
        # No disk has so much room.
        change_params(project, "notify", {"to": to, "disk_free": 0.999999})
        context = Context(Environment.read().at(project, home), ledger_of(home))
        vars(context)["registry"] = SimpleNamespace(anchors=lambda names: [], anchor=lambda *_: None)
        one = Teller(context.ledger, ReadAgain(project).read, home)
        one.look()
        what_happens(context, Counts(home))
        until(one, lambda: len(every.bodies) >= 7 and len(severe.bodies) >= 2)
        again = Teller(context.ledger, ReadAgain(project).read, home)
        for teller_ in (one, again, again):
            teller_.look()
            time.sleep(0.1)
    told = {body["message"].split(":")[0]: (body["title"], body["message"]) for body in every.bodies}
    assert len(every.bodies) == len(told) == 7, [body["message"] for body in every.bodies]
    wanted = {
        "drift alarm": ("[warning] churn", "perennial decide churn"),
        "1 of 1 gates failed, so that nothing is registered": ("[warning] churn", "gates of models.churn"),
        "version 3 waits for approval until 2030-01-01 00": ("[warning] churn", "perennial approve churn 3"),
        "version 2 was rolled back, version 1 is live": ("[critical] churn", "perennial deploy churn 2"),
        "error budget burns": ("[critical] churn", "perennial slo churn"),
        "disk nearly full": ("[critical] Perennial", "du -xsh"),
        "the ledger's chain is broken": ("[critical] Perennial", "perennial verify"),
    }
    assert told.keys() == wanted.keys()
    for said, (title, command) in wanted.items():
        assert told[said][0] == title and command in told[said][1].partition("\nNext: ")[2], told[said]
    assert sorted(body["message"].split(":")[0] for body in severe.bodies) == [
        "error budget burns",
        "version 2 was rolled back, version 1 is live",
    ]
    assert other.bodies == []
    for teller_ in (one, again):
        teller_.close()


def test_the_command_sends_a_test_and_says_what_is_wrong(project, monkeypatch, capsys):
    """`notify --test` reaches those who can be reached, names the others with the reason, and ends with 1 for them."""
    monkeypatch.setenv("PERENNIAL_HOME", str(project / "home"))
    monkeypatch.delenv("NOTIFY_UNSET", raising=False)
    with webhook() as hook:
        change_params(project, "notify", {"to": [{"url": hook.url, "name": "hook"}, {"url": "NOTIFY_UNSET"}]})
        assert main(["notify", "--test", "--to", "hook"]) == 0
        assert main(["notify", "--test", "--json"]) == 1
        assert main(["notify", "--test", "--to", "nobody"]) == 1
    told = capsys.readouterr()
    assert "there is no recipient nobody among notify.to; they are hook, NOTIFY_UNSET" in told.err
    recipients = json.loads(told.out[told.out.index("{") :])["recipients"]
    assert [(r["to"], r["told"]) for r in recipients] == [("hook", True), ("NOTIFY_UNSET", False)]
    assert len(hook.bodies) == 2 and hook.bodies[0]["title"] == "[info] Perennial: a test"
    assert main(["notify"]) == 0
    assert "the variable NOTIFY_UNSET is not set here" in capsys.readouterr().out
