"""Sends a message to an address of apprise: mail, Slack, Teams, a webhook, and some hundred other services."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.notices.matters import Matter
from pipeline.settings.notify import Recipient

# More matters than these go into one message: an outage of everything is one message, not two hundred.
MOST_SINGLE = 5
LONGEST_LIST = 40
TYPES = {"info": "info", "warning": "warning", "critical": "failure"}
WORSE = ("info", "warning", "critical")


class _Heard(logging.Handler):
    """Keeps what apprise logs in this thread: it returns no reason for a failure."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread, self.lines = threading.get_ident(), []  # type: int, list[str]

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.lines.append(record.getMessage())


@dataclass(frozen=True)
class Sent:
    """The first `taken` matters were taken; `why` not the next one, '' when all were."""

    taken: int
    why: str = ""


def send(address: str, matters: Sequence[Matter]) -> Sent:
    """Tells the address of the matters, in one message or one each, up to the first that is not taken. Raises nothing."""
    if len(matters) > MOST_SINGLE:
        why = _send(address, *together(matters))
        return Sent(0 if why else len(matters), why)
    for place, matter in enumerate(matters):
        if why := _send(address, matter.title, matter.text, matter.severity):
            return Sent(place, why)
    return Sent(len(matters))


def tested(recipient: Recipient) -> str:
    """Sends a test message; '' when it was taken, else why not."""
    text = "This is a test of `notify` in params.yaml.\nNext: nothing; you will be told here what happens."
    return _send(recipient.address, "[info] Perennial: a test", text, "info")


def together(matters: Sequence[Matter]) -> tuple[str, str, str]:
    """(title, text, severity) of one message about many matters."""
    severity = max((matter.severity for matter in matters), key=WORSE.index)
    count = sum(matter.severity == severity for matter in matters)
    ordered = sorted(matters, key=lambda matter: -WORSE.index(matter.severity))
    lines = [f"- {matter.title}: {matter.said}\n  Next: {matter.next_step}" for matter in ordered[:LONGEST_LIST]]
    more = len(matters) - LONGEST_LIST
    lines += [f"and {more} more: perennial notify lists them"] if more > 0 else []
    return f"[{severity}] Perennial: {len(matters)} matters, {count} {severity}", "\n".join(lines), severity


def _send(address: str, title: str, text: str, severity: str) -> str:
    import apprise

    if not address:
        return "its environment variable is not set where the notices are sent"
    logger, heard = logging.getLogger("apprise"), _Heard()
    logger.addHandler(heard)
    try:
        # The text is data: no `+` or `{` of it may mean something to apprise.
        asset = apprise.AppriseAsset(app_id="Perennial", app_desc="Perennial", app_url="", async_mode=False)
        sender = apprise.Apprise(asset=asset)
        if not sender.add(address):
            return f"apprise does not know such an address{_because(heard.lines, address)}"
        kind, plain = apprise.NotifyType(TYPES[severity]), apprise.NotifyFormat.TEXT
        # One after another in this thread: apprise's own call would log in threads of its own.
        taken = all(place.notify(body=text, title=title, notify_type=kind, body_format=plain) for place in sender)
        return "" if taken else f"it was not taken{_because(heard.lines, address)}"
    except Exception as error:
        # A plugin of apprise may raise anything; the next try comes after a pause.
        return _hidden(f"{type(error).__name__}: {error}", address)
    finally:
        logger.removeHandler(heard)


def _because(lines: Sequence[str], address: str) -> str:
    return f": {_hidden('; '.join(lines[-2:]), address)}" if lines else ""


def _hidden(text: str, address: str) -> str:
    """The text without what may be a secret of the address: each of its longer parts but the host."""
    host = re.match(r"\w+://(?:[^/@]*@)?([^/:?]*)", address)
    for part in sorted(set(re.split(r"[/:@?&=,\s]+", address)), key=len, reverse=True):
        if len(part) > 5 and part not in ("mailto", "mailtos", "msteams") and not (host and part == host[1]):
            text = text.replace(part, "…")
    return " ".join(text.split())[:300]
