"""What a page answers where it cannot be shown."""

from __future__ import annotations

from pipeline.errors import LedgerError, PerennialError, RegistryAwayError


def status_of(error: PerennialError) -> int:
    """The HTTP status: 503 where the ledger or MLflow cannot be read, which may pass; else 404, for there is no such thing to show."""
    return 503 if isinstance(error, LedgerError | RegistryAwayError) else 404
