"""The stop button of a model: while it is frozen no retrain begins and no version goes live but at a person's word.

What protects the traffic goes on: the watch after a rollout still rolls back, slots are still recovered, and looks are still made.
"""

from __future__ import annotations

from datetime import datetime

from pipeline.context import Context
from pipeline.errors import SettingsError
from pipeline.ledger.freeze_events import Frozen, Unfrozen
from pipeline.policy import freeze as policy


def frozen(context: Context, name: str) -> str:
    """That the model is frozen now, by whom and why; '' when it is not."""
    return policy.frozen(context.ledger, context.params.models, name, context.clock())


def freeze(context: Context, run: str, name: str, reason: str, until: datetime | None = None) -> str:
    """Freezes the model, and returns that in a sentence. Raises SettingsError for an `until` that is over."""
    now = context.clock()
    if until is not None and until <= now:
        raise SettingsError(f"freeze {name}", f"until {until:%Y-%m-%d %H:%M} is over at once", "name a later time")
    event = Frozen(reason=reason, until=until.isoformat() if until else "", by=context.asked_by)
    context.ledger.append(event, name, run)
    return event.sentence()


def unfreeze(context: Context, run: str, name: str, reason: str) -> str:
    """Ends what `freeze` began, and returns that in a sentence. Raises SettingsError where nothing is to end, or a calendar freezes it."""
    event = Unfrozen(reason=reason, by=context.asked_by)
    ended = bool(policy.by_hand(context.ledger, [name], context.clock()))
    if ended:
        context.ledger.append(event, name, run)
    if still := frozen(context, name):
        raise SettingsError(f"model {name}", f"is still {still}", f"change models.{name}.policy.frozen in params.yaml")
    if not ended:
        raise SettingsError(f"model {name}", "is not frozen", f"`perennial status {name}` says what is so")
    return event.sentence()
