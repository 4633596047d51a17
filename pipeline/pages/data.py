"""The page of a data version: its partitions, the versions trained on it, and when those were live."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.context import Context
from pipeline.errors import DataError
from pipeline.html.templates import rendered
from pipeline.ledger.data_revisions import revisions
from pipeline.pages.downloads import Table
from pipeline.runs.provenance import trace
from pipeline.workspaces import dvc_remote


def data_page(context: Context, version: str) -> str:
    """The page as HTML. Raises DataError for a data version that no run has landed."""
    return rendered(Path(__file__).with_name("data.html"), facts(context, version))


def table(context: Context, version: str) -> Table:
    """Its partitions, oldest first. Raises DataError as `data_page` does."""
    return Table(("day", "revision", "of", "rows", "at", "md5"), facts(context, version)["days"])


def facts(context: Context, data: str) -> dict[str, Any]:
    """The template's values."""
    traced = trace(context, data)
    version = traced.data_versions[0]
    model = traced.landed_by[version]
    days = _days(context, model, version)
    uri = context.registry.uri
    return {
        "version": version,
        "model": model,
        "versions": [traced_version.as_dict() for traced_version in traced.versions],
        "days": days,
        "rows": sum(day["rows"] for day in days),
        "most": max((day["rows"] for day in days), default=1) or 1,
        "mlflow": uri.rstrip("/") if uri.startswith("http") else "",
    }


def _days(context: Context, model: str, version: str) -> list[dict[str, Any]]:
    """The data version's partitions with their rows and revisions, oldest first. Raises DataError."""
    files = dvc_remote.partitions(context.project, version)
    history = revisions(context.ledger, model, files.keys())
    days: list[dict[str, Any]] = []
    for name, md5 in sorted(files.items()):
        of_day = history.get(name, [])
        revision = next((r for r in of_day if r.md5 == md5), None)
        if revision is None:
            raise DataError(f"partition {name}", "is not in the ledger", "`perennial verify` checks the ledger")
        days.append(
            {
                "day": dvc_remote.day_of(name),
                "revision": revision.number,
                "of": max(r.number for r in of_day),
                "rows": revision.rows,
                "at": revision.at,
                "md5": md5,
            }
        )
    return days
