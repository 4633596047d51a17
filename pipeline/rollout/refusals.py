"""How the deployer refuses a version: in one line for who asked, and in the ledger."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import RolloutError
from pipeline.ledger.approval_events import DeployRefused, Rejected, short_digest
from pipeline.ledger.approvals import Standing
from pipeline.ledger.chain import canonical
from pipeline.rollout.context import RolloutContext


def refused(
    context: RolloutContext, model: str, version: str, why: str, check: str, changed: Sequence[str] = ()
) -> RolloutError:
    """The refusal, which is in the ledger too: once for a run, where no person asks and it is tried again and again."""
    event = DeployRefused(version=version, why=why, changed=tuple(changed), asked_by=context.asked_by or None)
    last = [entry for entry in context.ledger.last(DeployRefused, model=model) if (entry.run or "") == context.run]
    if context.asked_by or not any(canonical(entry.event.body()) == canonical(event.body()) for entry in last):
        context.ledger.append(event, model, context.run, "roll_out")
    return RolloutError(f"version {version} of {model}", why, check)


def changed_since(context: RolloutContext, model: str, version: str, by: str, changed: Sequence[str]) -> RolloutError:
    """The refusal of a version that is no longer as it was approved; `changed` has a line for each part."""
    what = f"changed since {by} approved it: {'; '.join(changed)}"
    again = f"look at who changed it; `perennial approve {model} {version} --ask` asks for what is there now"
    return refused(context, model, version, what, again, changed)


def another(part: str, what: str, now: str, approved: str) -> str:
    """The line for a part whose digest is not the one that was approved."""
    return f"{part}: {what} has digest {short_digest(now)}, but {short_digest(approved)} was approved"


def by_people(
    context: RolloutContext, model: str, version: str, held: Standing, approved_by: str
) -> RolloutError | None:
    """The refusal of a version that a person has rejected, or that was approved by one who is no longer named; None for any other.

    A way back asks for nothing else: that somebody asked anew, and was not answered, does not close it.
    """
    again = f"`perennial approve {model} {version} --ask` asks again"
    if isinstance(rejected := held.decided.event if held.decided is not None else None, Rejected) and rejected.by:
        return refused(context, model, version, held.rejected(context.clock()), again)
    return by_unnamed(context, model, version, approved_by)


def by_unnamed(context: RolloutContext, model: str, version: str, approved_by: str) -> RolloutError | None:
    """The refusal of a version that was approved by a person whom `approval_by` does not name; None for any other."""
    named = context.approvers(model)
    if not (named and approved_by) or approved_by in named:
        return None
    again = f"`perennial approve {model} {version} --ask` asks again"
    return refused(context, model, version, f"was approved by {approved_by}, {not_named(model, named)}", again)


def not_named(model: str, named: Sequence[str]) -> str:
    """Why a person who is not among these may not approve."""
    return f"who is not in models.{model}.approval_by ({', '.join(named)})"
