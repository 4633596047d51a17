"""How the deployer refuses a version: in one line for who asked, and in the ledger."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import RolloutError
from pipeline.ledger.approval_events import DeployRefused, short_digest
from pipeline.rollout.context import RolloutContext


def refused(
    context: RolloutContext, model: str, version: str, why: str, check: str, changed: Sequence[str] = ()
) -> RolloutError:
    """The refusal, which is in the ledger too."""
    event = DeployRefused(version=version, why=why, changed=tuple(changed), asked_by=context.asked_by or None)
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
