"""The events of service levels and of what people are told."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.ledger.events import Event


class BudgetBurning(Event, kind="budget_burning"):
    """The error budget of `objective` burns `rate` times too fast, as seen over `hours`. One is written when it begins, and one when it
    gets more severe. `version` is live."""

    objective: str
    severity: str
    rate: float
    hours: float
    reason: str
    version: str = ""

    def sentence(self) -> str:
        return f"error budget burns: {self.reason}"


class BudgetCalm(Event, kind="budget_calm"):
    """The error budget of `objective` burns no longer."""

    objective: str

    def sentence(self) -> str:
        return f"error budget of slo.{self.objective} burns no longer"


class BudgetSpent(Event, kind="budget_spent"):
    """Nothing is left of the window's error budget of `objective`."""

    objective: str
    window_days: float
    reason: str
    version: str = ""

    def sentence(self) -> str:
        return f"error budget spent: {self.reason}"


class BudgetRestored(Event, kind="budget_restored"):
    """Something is left again of an error budget that was spent."""

    objective: str

    def sentence(self) -> str:
        return f"something is left again of the error budget of slo.{self.objective}"


class BurnRollbackHeld(Event, kind="burn_rollback_held"):
    """The live version's budget burns soon after its rollout, and it is kept all the same, for that reason."""

    version: str
    reason: str

    def sentence(self) -> str:
        return f"version {self.version} is not rolled back though its error budget burns: {self.reason}"


class DiskNearlyFull(Event, kind="disk_nearly_full"):
    """Of the disk of `folder` only `free_share` (0 to 1) is free, `free_mb` MiB; the limit is `limit`."""

    folder: str
    free_share: float
    free_mb: int
    limit: float


class DiskHasRoom(Event, kind="disk_has_room"):
    """Ends a `DiskNearlyFull` of the same `folder`; `free_share` is from 0 to 1."""

    folder: str
    free_share: float


class NoticesBegan(Event, kind="notices_began"):
    """From now on `target` of `notify` is told what happens, and not what happened before."""

    target: str


class NoticeSent(Event, kind="notice_sent"):
    """`target` was told of the matter `key`, which the event number `of` began; several together have one message."""

    target: str
    key: str
    of: int = 0
    severity: str = ""
    said: str = ""


class NoticeFailed(Event, kind="notice_failed"):
    """`target` could not be told of `keys` for the first time in a row; it is tried again, except when `given_up`."""

    target: str
    keys: Sequence[str]
    why: str
    given_up: bool = False
