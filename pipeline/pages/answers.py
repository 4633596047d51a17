"""What a page answers where it cannot be shown."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import LedgerError, PerennialError, RegistryAwayError
from pipeline.html.templates import rendered


def status_of(error: PerennialError) -> int:
    """The HTTP status: 503 where the ledger or MLflow cannot be read, which may pass; else 404, for there is no such thing to show."""
    return 503 if isinstance(error, LedgerError | RegistryAwayError) else 404


def unshown_page(why: str) -> str:
    """The page, as HTML, that says why another one is not shown."""
    return rendered(Path(__file__).with_name("unshown.html"), {"why": why})
