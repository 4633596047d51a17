"""Are there enough rows that keep the contract?"""

from __future__ import annotations

from pipeline.gates.base import ValidatedData, Verdict


def verdict(data: ValidatedData) -> Verdict:
    """`observed` counts the window's rows without those in quarantine."""
    rows, limit = data.validation["kept"], data.model.gates.contract.min_rows
    return Verdict("enough_rows", rows >= limit, rows, limit, f"{rows:,} rows kept, at least {limit:,} required")
