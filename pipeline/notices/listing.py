"""What `perennial notify` lists: the matters of the last days, and who was told of each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pipeline.ledger.slo_events import NoticeFailed, NoticeSent
from pipeline.ledger.store import Ledger
from pipeline.notices.book import Book
from pipeline.notices.matters import Matter
from pipeline.settings.models import Params
from pipeline.settings.notify import Recipient


@dataclass(frozen=True)
class Line:
    """A matter; `told` has when each recipient was told (UTC, ISO 8601), and `waiting` for whom it waits, with the last failure or ''."""

    matter: Matter
    told: dict[str, str]
    waiting: dict[str, str]


@dataclass(frozen=True)
class Listing:
    """A recipient's address is a secret and in neither form, only whether this process knows it."""

    recipients: tuple[Recipient, ...]
    lines: tuple[Line, ...]

    def as_dict(self) -> dict[str, Any]:
        recipients = [
            {
                "to": r.label,
                "models": r.models,
                "teams": r.teams,
                "severities": r.severities,
                "address_known": bool(r.address),
            }
            for r in self.recipients
        ]
        matters = [{**asdict(line.matter), "told": line.told, "waiting": line.waiting} for line in self.lines]
        return {"recipients": recipients, "matters": matters}

    def text(self) -> str:
        who = [
            f"{r.label}: {', '.join(r.severities)} of {_of(r)}{'' if r.address else f'; the variable {r.url} is not set here'}"
            for r in self.recipients
        ]
        nobody = "nobody is told: `notify.to` of params.yaml is empty, docs/notices.md has an example"
        lines = [f"{len(self.lines)} matters of the last days" if self.lines else "no matter in the last days"]
        for line in self.lines:
            lines.append(f"{line.matter.at[:16].replace('T', ' ')} {line.matter.title}: {line.matter.said}")
            lines.append(f"  next: {line.matter.next_step}")
            lines += [f"  told {target} {at[:16].replace('T', ' ')}" for target, at in line.told.items()]
            lines += [f"  waits for {target}{f': {why}' if why else ''}" for target, why in line.waiting.items()]
            lines += [] if line.told or line.waiting else ["  nobody is told of it"]
        return "\n".join([*(who or [nobody]), *lines])


def _of(recipient: Recipient) -> str:
    parts = [*recipient.models, *(f"team {team}" for team in recipient.teams)]
    return ", ".join(parts) or "all models"


def listing(ledger: Ledger, params: Params) -> Listing:
    """Reads the ledger and writes nothing. Raises LedgerError."""

    def team_of(model: str) -> str | None:
        block = params.models.get(model)
        return block.team if block is not None else None

    book, recipients = Book(ledger, team_of), params.notices.to
    book.read(())
    told: dict[str, dict[str, str]] = {}
    for entry in ledger.events(NoticeSent):
        told.setdefault(entry.event.key, {})[entry.event.target] = entry.at
    failed: dict[tuple[str, str], str] = {}
    for failure in ledger.events(NoticeFailed):
        failed |= {(failure.event.target, key): failure.event.why for key in failure.event.keys}
    waiting = {recipient.label: {matter.key for matter in book.waiting(recipient)} for recipient in recipients}
    lines = [
        Line(
            matter,
            told.get(matter.key, {}),
            {to: failed.get((to, matter.key), "") for to, keys in waiting.items() if matter.key in keys},
        )
        for matter in book.matters()
    ]
    return Listing(recipients, tuple(lines))
