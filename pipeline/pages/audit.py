"""The page of a model's audit: who or what did what, on which evidence; of one kind, or of all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.context import Context
from pipeline.errors import SettingsError
from pipeline.html.templates import rendered
from pipeline.ledger.newest_events import has_events
from pipeline.pages.downloads import Table
from pipeline.pages.events import LARGEST
from pipeline.runs.audit import AuditLine, audit_in_parts
from pipeline.runs.audit_newest import newest_lines

COLUMNS = ("at", "kind", "version", "who", "what", "run", "event", "hash", "evidence")
# At once; the older ones are a link away, and the files have all.
SHOWN = 500


def audit_page(context: Context, model: str, kind: str = "", before: int = 0) -> str:
    """The page as HTML, of what was done before the event number `before`, 0 for the newest. Raises SettingsError for a model that neither params.yaml nor the ledger has, and for an unknown kind."""
    return rendered(Path(__file__).with_name("audit.html"), facts(context, model, kind, before))


def table(context: Context, model: str, kind: str = "") -> Table:
    """All lines, oldest first; the evidence in one column. Raises SettingsError as `audit_page` does."""
    _check_known(context, model)
    lines = audit_in_parts(context.ledger, model, kind)
    return Table(COLUMNS, (_row(line) for line in lines))


def _row(line: AuditLine) -> dict[str, Any]:
    return {**line.as_dict(), "event": line.evidence["event"], "hash": line.evidence["hash"], "evidence": proof(line)}


def proof(line: AuditLine) -> dict[str, Any]:
    """The evidence beside the ledger's row, which has columns of its own."""
    return {name: value for name, value in line.evidence.items() if name not in ("event", "hash", "changed")}


def _check_known(context: Context, model: str) -> None:
    if not has_events(context.ledger, model) and model not in {*context.params.models, *context.params.broken}:
        raise SettingsError(f"model {model}", "is not known", "`perennial status` lists the models")


def facts(context: Context, model: str, kind: str, before: int = 0) -> dict[str, Any]:
    """The template's values."""
    _check_known(context, model)
    # No database takes a number that is far larger than any event's.
    newest = newest_lines(context.ledger, model, kind, SHOWN, before if before <= LARGEST else 0)
    return {
        "model": model,
        "kind": kind,
        "kinds": list(newest.counts.items()),
        "in_all": sum(newest.counts.values()),
        "found": newest.counts[kind] if kind else sum(newest.counts.values()),
        "before": before,
        "older": newest.before if newest.older else 0,
        "lines": [{**line.as_dict(), "proof": proof(line)} for line in reversed(newest.lines)],
    }
