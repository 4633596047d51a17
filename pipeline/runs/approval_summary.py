"""What a person sees who is asked for an approval: the gates' verdicts, what it is made of, and where to look further. Markdown."""

from __future__ import annotations

from urllib.parse import quote

from pipeline.context import Context
from pipeline.gates.base import Verdict
from pipeline.ledger.approval_events import ApprovalAsked
from pipeline.ledger.approvals import registered
from pipeline.ledger.events import GatesChecked
from pipeline.ledger.store import Entry
from pipeline.ledger.timeline import live_at


def subject(name: str, version: str) -> str:
    return f"Bring version {version} of {name} live?"


def body(context: Context, name: str, asked: Entry[ApprovalAsked]) -> str:
    """The text below the subject."""
    event = asked.event
    entry = registered(context.ledger, name, event.version)
    live = live_at(context.ledger, name)
    parts, as_of = event.parts, f", as of {_minute(entry.event.as_of)}" if entry is not None else ""
    blocks = [
        f"Live now: {f'version {live.version}' if live else 'nothing'}. Without an answer until {_minute(event.until)} UTC it is rejected.",
        "\n".join(_verdicts(context, entry.run if entry is not None else "")),
        f"Data version `{parts['data_version']}`{as_of}; code revision `{parts['code_revision'][:12]}`; package `{parts['package'][:12]}`; "
        f"image `{parts['image'][-12:]}`. What is approved has the digest `{event.digest}`.",
        f"Asked by {event.asked_by}." if event.asked_by else "Asked by no person: the run began by itself.",
        " · ".join(_links(context, name, event.version, parts["data_version"], entry.run if entry is not None else "")),
    ]
    return "\n\n".join(blocks)


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


def _verdicts(context: Context, run: str) -> list[str]:
    """A Markdown table of the run's last gates."""
    checked = context.ledger.events(GatesChecked, run=run) if run else []
    if not checked:
        return ["The ledger has no gates of its run."]
    rows = ["| gate | verdict | why |", "|---|---|---|"]
    for values in checked[-1].event.verdicts:
        verdict = Verdict.from_dict(values)
        rows.append(f"| {verdict.gate} | {verdict.word} | {_cell(verdict.reason)} |")
    return rows


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _links(context: Context, name: str, version: str, data_version: str, run: str) -> list[str]:
    """Pages about it. Without an address of Airflow the commands in their place."""
    airflow, mlflow = context.environment.airflow, context.registry.uri
    links = [f"`perennial audit {name}`"]
    if airflow:
        links = [f"[gates' report]({airflow}/perennial/gates/{quote(run)})"] if run else []
        links += [
            f"[model card]({airflow}/perennial/card/{name}/{version})",
            f"[audit]({airflow}/perennial/audit/{name})",
            f"[data]({airflow}/perennial/data/{data_version})",
            f"[overview]({airflow}/perennial/)",
        ]
    if mlflow.startswith("http"):
        links.append(f"[MLflow]({mlflow.rstrip('/')}/#/models/{name}/versions/{version})")
    return links
