"""Notices arrive as mail and at a webhook, through the real apprise."""

import json
import time

from harness.ledgers import ledger_of
from harness.project import change_params
from pipeline.cli.main import main
from pipeline.ledger.events import LedgerVerified
from pipeline.ledger.slo_events import BudgetBurning, NoticeFailed, NoticeSent
from pipeline.notices import teller
from pipeline.notices.teller import Teller
from pipeline.settings.read_again import ReadAgain
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
        change_params(project, "notify", {"to": to})
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
