"""The statement of account of a model: the bill, what its deployments and its decisions to wait were worth, and how deployments go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.accounts import deployment_figures, published
from pipeline.accounts.figures import Figure
from pipeline.accounts.statement import Statement, Terms, statement
from pipeline.accounts.value import Deployment, deployments
from pipeline.accounts.waits import Wait, waits
from pipeline.ledger.store import Ledger, now


@dataclass(frozen=True)
class Account:
    bill: Statement
    deployments: Sequence[Deployment]
    waits: Sequence[Wait]
    figures: Sequence[Figure]

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.bill.model or None,
            "until": self.bill.until,
            "currency": self.bill.currency,
            "bill": self.bill.as_dict(),
            "deployments": [each.as_dict() for each in self.deployments],
            "waits": [each.as_dict() for each in self.waits],
            "figures": {figure.name: figure.as_dict() for figure in self.figures},
            "platforms": deployment_figures.platforms(self.figures),
            "platforms_source": published.PLATFORMS_SOURCE,
        }


def account(ledger: Ledger, terms: Terms, model: str, until: str = "") -> Account:
    """The account of a model up to `until`, which is now by default. Raises LedgerError."""
    until = until or now()
    bill = statement(ledger, terms, model=model, until=until)
    return Account(
        bill,
        deployments(ledger, terms, model, until),
        waits(ledger, terms, model),
        deployment_figures.deployment_figures(ledger, bill),
    )
