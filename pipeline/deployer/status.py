"""Which version of which model is live where: the route says it, the slot confirms it, the ledger dates it."""

from __future__ import annotations

from typing import Any

from pipeline.context import Context
from pipeline.errors import RolloutError
from pipeline.ledger.rollout_events import RolledBack, RolloutHolding, RolloutStarted, RouteMoved
from pipeline.ledger.timeline import live_at, predecessor
from pipeline.rollout import probe
from pipeline.rollout.recovery import open_rollout
from pipeline.rollout.routing import route, route_file


def models_status(context: Context, model: str = "") -> list[dict[str, Any]]:
    """One entry a model: {"model", "live", "previous", "candidate", "shares", "baking", "holds", "undo", "problem", …}.

    `shares` lists {"version", "percent", "since"}: who answers how much of the traffic, since when.
    """
    names = [model] if model else list(context.params.models)
    return [_model_status(context, name) for name in names]


def _model_status(context: Context, name: str) -> dict[str, Any]:
    told: dict[str, Any] = {
        "model": name,
        "description": context.params.model(name).description,
        "address": f"{context.environment.router_addresses.public_url}/{name}/invocations",
        "live": None,
        "previous": None,
        "candidate": None,
        "shares": [],
        "problem": None,
        "undo": None,
        "baking": None,
        "holds": None,
    }
    try:
        current = route_file.read(context.home, name)
    except RolloutError as error:
        return {**told, "problem": str(error)}
    if current is None:
        return told
    last = live_at(context.ledger, name)
    live_since = last.since if last is not None else None
    since = _moved_at(context, name) or live_since
    told["live"] = {
        **_slot(current.live),
        "since": live_since,
        "answers": _answers(current.live),
        "ledger_agrees": last is not None and last.version == current.live.version,
    }
    told["shares"] = [{"version": v, "percent": p, "since": since} for v, p in current.shares.items()]
    if current.previous is not None:
        told["previous"] = {**_slot(current.previous), "warm": _answers(current.previous)}
    opened = open_rollout(context.ledger, name)
    if current.candidate is not None:
        told["candidate"] = {**_slot(current.candidate), "percent": current.percent, "mirror": current.mirror}
        told["candidate"] |= {"since": since, "answers": _answers(current.candidate), "follow": current.follow or None}
    baking = current.candidate or (
        current.live if opened is not None and isinstance(opened.event, RolloutStarted) else None
    )
    told["baking"] = baking.version if baking is not None else None
    told["holds"] = _why_it_holds(context, name, opened.seq) if opened is not None else None
    before = predecessor(context.ledger, name, current.live.version)
    if opened is not None or current.previous is not None or before is not None:
        told["undo"] = f"rollback {name}"
    return told


def _slot(share: route.Share) -> dict[str, Any]:
    return {"version": share.version, "slot": share.slot}


def _answers(share: route.Share) -> bool:
    return probe.answering_version(share.address, timeout_s=1) == share.version


def _moved_at(context: Context, name: str) -> str | None:
    moves = context.ledger.events(RouteMoved, RolledBack, model=name)
    return moves[-1].at if moves else None


def _why_it_holds(context: Context, name: str, since: int) -> str | None:
    """Why the step that goes on now is not left yet, as far as it has been said."""
    entries = context.ledger.events(RolloutHolding, RouteMoved, model=name, after=since)
    last = entries[-1].event if entries else None
    return last.reason if isinstance(last, RolloutHolding) else None
