"""Rolls back a version whose error budget burns within the keep time of its rollout, on what was counted at that moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import LeaseBusy, RolloutError
from pipeline.reliability.counts import Counts
from pipeline.reliability.judging import RUN, burnt_version, told_held
from pipeline.rollout.routing import route_file

if TYPE_CHECKING:
    from pipeline.context import Context
    from pipeline.rollout.results import Rollback


@dataclass(frozen=True)
class BurntRollback:
    """What was done for the model's budgets, and why; `rollback` is None when nothing was."""

    model: str
    reason: str
    rollback: Rollback | None = None

    def __str__(self) -> str:
        done = f"back on version {self.rollback.version}" if self.rollback else "nothing is rolled back"
        return f"{self.model}: {done}; {self.reason}"

    def as_dict(self) -> dict[str, Any]:
        rollback = self.rollback.as_dict() if self.rollback else None
        return {"model": self.model, "reason": self.reason, "rollback": rollback}


def roll_back_burnt(context: Context, name: str) -> BurntRollback:
    """Looks once more, and rolls back to the warm predecessor, under the model's lease. Leaves a rollout that is going on alone."""
    from pipeline.deployer.api import LocalTraffic
    from pipeline.rollout import probe

    route = route_file.read(context.home, name)
    model = context.params.model(name)
    if route is None or route.previous is None or route.candidate is not None:
        return BurntRollback(name, "it has no warm predecessor beside the live version alone")
    before = route.previous
    burnt = burnt_version(
        context.ledger, Counts(context.home), name, model, before.version, context.clock().timestamp()
    )
    if burnt is None:
        return BurntRollback(name, "no budget of the live version burns within rollout.keep_hours")
    if burnt.held:
        told_held(context.ledger, burnt)
        return BurntRollback(name, burnt.held)
    if probe.answering_version(before.address) != before.version:
        raise RolloutError(
            f"model {name}",
            f"version {before.version} does not answer, so nothing goes back to it",
            f"perennial reconcile {name}",
        )
    reason = f"an error budget burns within rollout.keep_hours: {burnt.reason}"
    try:
        done = LocalTraffic(context).replace(RUN, name, reason, burnt.version, before.version)
    except LeaseBusy:
        return BurntRollback(name, f"{burnt.reason}; but a rollout is going on, it is left alone")
    return BurntRollback(name, burnt.reason, done)
