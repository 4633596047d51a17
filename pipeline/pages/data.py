"""The page of a data version: its partitions, the versions trained on it, and when those were live."""

from __future__ import annotations

from typing import Any

from pipeline.context import Context
from pipeline.errors import DataError
from pipeline.ledger.data_revisions import revisions
from pipeline.ledger.events import DataLanded
from pipeline.pages.templates import rendered
from pipeline.runs.provenance import trace
from pipeline.workspaces import dvc_remote


def data_page(context: Context, asked: str) -> str:
    """The page as HTML. Raises DataError for a data version that no run has landed."""
    return rendered("data.html", facts(context, asked))


def facts(context: Context, asked: str) -> dict[str, Any]:
    """What the page shows."""
    told = trace(context, asked)
    version = told["data_versions"][0]
    model = next(e.model for e in context.ledger.events(DataLanded) if e.event.data_version == version)
    history = revisions(context.ledger, model)
    days: list[dict[str, Any]] = []
    for name, md5 in sorted(dvc_remote.partitions(context.project, version).items()):
        known = history.get(name, [])
        one = next((r for r in known if r.md5 == md5), None)
        if one is None:
            raise DataError(
                f"partition {name}", "is not in the ledger", "`python -m pipeline verify` checks the ledger"
            )
        days.append(
            {
                "day": dvc_remote.day_of(name),
                "revision": one.number,
                "of": max(r.number for r in known),
                "rows": one.rows,
                "at": one.at,
                "md5": md5,
            }
        )
    uri = context.registry.uri
    return {
        "version": version,
        "model": model,
        "versions": told["versions"],
        "days": days,
        "rows": sum(d["rows"] for d in days),
        "most": max((d["rows"] for d in days), default=1) or 1,
        "mlflow": uri.rstrip("/") if uri.startswith("http") else "",
    }
