"""The page of a model's audit: who or what did what, on which evidence; of one kind, or of all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.context import Context
from pipeline.errors import SettingsError
from pipeline.html.templates import rendered
from pipeline.pages.downloads import Table
from pipeline.runs.audit import KINDS, AuditLine, audit

COLUMNS = ("at", "kind", "version", "who", "what", "run", "event", "hash", "evidence")
# The newest; the command line has all.
SHOWN = 500


def audit_page(context: Context, model: str, kind: str = "") -> str:
    """The page as HTML. Raises SettingsError for a model that neither params.yaml nor the ledger has, and for an unknown kind."""
    return rendered(Path(__file__).with_name("audit.html"), facts(context, model, kind))


def table(context: Context, model: str, kind: str = "") -> Table:
    """All lines, oldest first; the evidence in one column. Raises SettingsError as `audit_page` does."""
    rows = [
        {**line.as_dict(), "event": line.evidence["event"], "hash": line.evidence["hash"], "evidence": proof(line)}
        for line in _lines(context, model, kind)
        if kind in ("", line.kind)
    ]
    return Table(COLUMNS, rows)


def proof(line: AuditLine) -> dict[str, Any]:
    """The evidence beside the ledger's row, which has columns of its own."""
    return {name: value for name, value in line.evidence.items() if name not in ("event", "hash", "changed")}


def _lines(context: Context, model: str, kind: str) -> list[AuditLine]:
    params = context.params
    if model not in params.models and model not in params.broken and model not in context.ledger.models():
        raise SettingsError(f"model {model}", "is not known", "`perennial status` lists the models")
    if kind and kind not in KINDS:
        raise SettingsError(f"kind {kind}", "is not known", f"must be one of {', '.join(KINDS)}")
    return audit(context.ledger, model)


def facts(context: Context, model: str, kind: str) -> dict[str, Any]:
    """The template's values."""
    lines = _lines(context, model, kind)
    chosen = [line for line in lines if kind in ("", line.kind)]
    return {
        "model": model,
        "kind": kind,
        "kinds": [(name, sum(line.kind == name for line in lines)) for name in KINDS],
        "in_all": len(lines),
        "found": len(chosen),
        "lines": [{**line.as_dict(), "proof": proof(line)} for line in reversed(chosen[-SHOWN:])],
    }
