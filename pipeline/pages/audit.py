"""The page of a model's audit: who or what did what, on which evidence; of one kind, or of all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.context import Context
from pipeline.errors import SettingsError
from pipeline.html.templates import rendered
from pipeline.runs.audit import KINDS, audit

# The newest; the command line has all.
SHOWN = 500


def audit_page(context: Context, model: str, kind: str = "") -> str:
    """The page as HTML. Raises SettingsError for a model that neither params.yaml nor the ledger has, and for an unknown kind."""
    return rendered(Path(__file__).with_name("audit.html"), facts(context, model, kind))


def facts(context: Context, model: str, kind: str) -> dict[str, Any]:
    """The template's values."""
    if model not in {*context.params.models, *context.params.broken, *context.ledger.models()}:
        raise SettingsError(f"model {model}", "is not known", "`perennial status` lists the models")
    if kind and kind not in KINDS:
        raise SettingsError(f"kind {kind}", "is not known", f"must be one of {', '.join(KINDS)}")
    lines = audit(context.ledger, model)
    chosen = [line for line in lines if kind in ("", line.kind)]
    return {
        "model": model,
        "kind": kind,
        "kinds": [(name, sum(line.kind == name for line in lines)) for name in KINDS],
        "in_all": len(lines),
        "found": len(chosen),
        "lines": [
            {
                **line.as_dict(),
                "proof": {k: v for k, v in line.evidence.items() if k not in ("event", "hash", "changed")},
            }
            for line in reversed(chosen[-SHOWN:])
        ],
    }
