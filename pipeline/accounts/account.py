"""The statement of account of a model: the bill, what its deployments and its decisions to wait were worth, and how deployments go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.accounts import deployment_figures, published
from pipeline.accounts.figures import Figure
from pipeline.accounts.pauses import without_pauses
from pipeline.accounts.statement import Statement, Terms, statement
from pipeline.accounts.value import Deployment, deployments
from pipeline.accounts.waits import Wait, waits
from pipeline.accounts.windows import scored_windows
from pipeline.ledger.store import Ledger, now


@dataclass(frozen=True)
class Account:
    """`deployments` are the newest of so many `in_all`; of `waits`, which are all, `shown` of the newest stand in `as_dict`, 0 for all."""

    bill: Statement
    deployments: Sequence[Deployment]
    waits: Sequence[Wait]
    figures: Sequence[Figure]
    in_all: int = 0
    shown: int = 0

    @property
    def platforms(self) -> list[dict[str, Any]]:
        return deployment_figures.platforms(self.figures)

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.bill.model or None,
            "until": self.bill.until,
            "currency": self.bill.currency,
            "bill": self.bill.as_dict(),
            "deployments_in_all": self.in_all,
            "waits_in_all": len(self.waits),
            "deployments": [each.as_dict() for each in self.deployments],
            "waits": [each.as_dict() for each in self.waits[-self.shown :]],
            "figures": {figure.name: figure.as_dict() for figure in self.figures},
            "platforms": self.platforms,
            "platforms_source": published.PLATFORMS_SOURCE,
        }


@without_pauses()
def account(ledger: Ledger, terms: Terms, model: str, until: str = "", last: int = 0) -> Account:
    """The account of a model up to `until`, which is now by default; with `last` only so many of its newest deployments and decisions one by
    one. Raises LedgerError."""
    until = until or now()
    bill = statement(ledger, terms, model=model, until=until)
    past = deployment_figures.history(ledger, model, until)
    windows = scored_windows(ledger, model, terms.loss(model))
    return Account(
        bill,
        deployments(ledger, terms, bill, past, windows, last),
        waits(ledger, terms, model, windows),
        deployment_figures.deployment_figures(ledger, bill),
        len(past.live),
        last,
    )
