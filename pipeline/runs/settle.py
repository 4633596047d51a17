"""The last step of a run: its outcome and cost go to the ledger, and what the run left behind is cleared up."""

from __future__ import annotations

import logging

from pipeline.context import Context
from pipeline.deployer import traffic
from pipeline.errors import PerennialError
from pipeline.ledger import costs
from pipeline.ledger.approval_events import ApprovalAsked, Rejected
from pipeline.ledger.chain import Head
from pipeline.ledger.events import Event, RunOpened, RunSettled, StepEnded, StepStarted, VersionRegistered
from pipeline.ledger.rollout_events import RolloutEnded, ShadowEnded
from pipeline.ledger.store import Entry
from pipeline.runs import steps, workspace_transfer

log = logging.getLogger(__name__)


def settle(context: Context, run: str, model: str, backfill: bool = False) -> RunSettled:
    """Closes a run: records its outcome and cost in the ledger, and removes old workspaces.

    Except after a backfill it also recovers a rollout of the run that was cut off, and ends a predecessor that is due.
    """
    if not backfill:
        _recover_cut_off_rollout(context, run, model)
        _retire_predecessor(context, run, model)
    entries = _since_opened(context.ledger.events(run=run))
    cost = next((r.cost for r in costs.run_costs(context.ledger, context.params.prices, run=run)), 0.0)
    settled = RunSettled(outcome=_outcome(entries), cost=round(cost, 9), currency=context.params.prices.currency)
    _anchor(context, model, entries, context.ledger.append(settled, model, run).head)
    workspace_transfer.prune(context)
    return settled


def _anchor(context: Context, model: str, entries: list[Entry[Event]], head: Head) -> None:
    """Writes the ledger's head into the tags of the run's version. An error does not fail the run."""
    versions = [entry.event.version for entry in entries if isinstance(entry.event, VersionRegistered)]
    if versions:
        try:
            context.registry.anchor(model, versions[-1], head)
        except PerennialError as error:
            log.warning("%s", error)


def _outcome(entries: list[Entry[Event]]) -> str:
    """A run's outcome in a few words."""
    refused = ""
    for entry in reversed(entries):
        if isinstance(entry.event, RolloutEnded):
            return f"version {entry.event.version} went live"
        if isinstance(entry.event, ShadowEnded):
            return f"shadow of version {entry.event.version} says {entry.event.verdict}"
        if isinstance(entry.event, StepEnded) and (entry.step, entry.event.state) == ("roll_out", "failed"):
            # What is before it, a rollout too, is of an earlier try: the task was cleared.
            refused = f": {entry.event.error}"
            break
        if isinstance(entry.event, (ApprovalAsked, Rejected)):
            refused = f": {entry.event.sentence()}"
            break
    for entry in reversed(entries):
        if isinstance(entry.event, VersionRegistered):
            return f"version {entry.event.version} was registered as {entry.event.alias}, not rolled out{refused}"
    for entry in reversed(entries):
        if isinstance(entry.event, StepEnded) and entry.event.state == "failed":
            return f"failed at {entry.step}: {entry.event.error}"
    return "ended without a version"


def _since_opened(entries: list[Entry[Event]]) -> list[Entry[Event]]:
    """A run's events since it last began. A run that is cleared, or done again by a backfill, keeps its name."""
    starts = [
        i
        for i, entry in enumerate(entries)
        if isinstance(entry.event, RunOpened)
        or (isinstance(entry.event, StepStarted) and entry.step == "open_workspace")
    ]
    return entries[starts[-1] :] if starts else entries


def _recover_cut_off_rollout(context: Context, run: str, model: str) -> None:
    """Undoes or completes a rollout of this run without an end: its task was killed and could not do so itself."""
    from pipeline.rollout import recovery

    opening = recovery.open_rollout(context.ledger, model)
    if opening is not None and opening.run == run:
        for line in traffic(context).reconcile(run, [model]):
            log.info("%s", line)


def _retire_predecessor(context: Context, run: str, model: str) -> None:
    """Ends a predecessor that is due: for models without a schedule no monitor does it. An error does not fail the run."""
    try:
        for line in steps.retire_predecessor(context, run, model):
            log.info("%s", line)
    except PerennialError as error:
        log.warning("%s", error)
