"""The page of a model's rollout: while one goes on, its steps, who gets which share, the figures so far, and what it waits for.

All but the figures of the step that goes on is read from the ledger, so that it is the same on one machine and on a server.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.context import Context
from pipeline.deployer import traffic
from pipeline.errors import LedgerError, RolloutError, SettingsError
from pipeline.html.templates import rendered
from pipeline.ledger import lease
from pipeline.ledger.rollout_events import (
    CLOSINGS,
    OPENINGS,
    AbortAsked,
    EvidenceNeeded,
    Judged,
    Opening,
    Replayed,
    RolloutEnded,
    RolloutEvent,
    RolloutHolding,
    RolloutStarted,
    RouteMoved,
    ShadowEnded,
    SlotDied,
    SlotReady,
    StepBaked,
)
from pipeline.ledger.store import Entry
from pipeline.ledger.timeline import live_version
from pipeline.pages.downloads import Table
from pipeline.settings.rollout import Rollout

# What is told of a rollout: each has a sentence.
TOLD: tuple[type[RolloutEvent], ...] = (
    *OPENINGS,
    *CLOSINGS,
    *(SlotReady, SlotDied, RouteMoved, EvidenceNeeded, StepBaked, Replayed, AbortAsked),
)
# Among so many of a model's newest events its rollout is looked for; its holds apart, of which a long one has two a minute.
NEWEST = 500
# So many holds and moves are shown; the timeline has all.
SHOWN = 40
# Rollouts that have ended, on the page of all.
ENDED = 25
COLUMNS = ("model", "going_on", "kind", "version", "at", "what")
KINDS = {"rollout_started": "rollout", "rollback_started": "rollback", "undeploy_started": "undeploy"}


def rollout_page(context: Context, model: str, may_act: bool) -> str:
    """The page as HTML; with `may_act` it has the button that calls a rollout back. Raises SettingsError for an unknown model."""
    facts = {"model": model, "may_act": may_act, "state": _for_a_script(state(context, model))}
    return rendered(Path(__file__).with_name("rollout.html"), facts)


def rollouts_page(context: Context) -> str:
    """The rollouts that go on now, of all models, and those that ended last."""
    found = table(context)
    facts = {
        "going_on": [line for line in found.rows if line["going_on"]],
        "ended": [line for line in found.rows if not line["going_on"]][:ENDED],
        "state": found.json().replace("<", "\\u003c"),
    }
    return rendered(Path(__file__).with_name("rollouts.html"), facts)


def table(context: Context) -> Table:
    """The newest rollout, rollback or undeploy of each model, the newest first; `going_on` until its end is in the ledger."""
    entries = context.ledger.newest(*OPENINGS, *CLOSINGS)
    return Table(COLUMNS, [_line(entry) for entry in reversed(entries)])


def _line(entry: Entry[Any]) -> dict[str, Any]:
    return {
        "model": entry.model,
        "going_on": isinstance(entry.event, Opening),
        "kind": KINDS.get(entry.kind, entry.kind),
        "version": entry.event.version,
        "at": entry.at,
        "what": entry.event.sentence(),
    }


def state(context: Context, model: str) -> dict[str, Any]:
    """The newest rollout, rollback or undeploy of the model, as JSON takes it; `kind` is None before any.

    `going_on` until its end is in the ledger; `shares` are who gets which percentage now, the live version first; `figures` are looks
    as pipeline.policy.canary.Look has them. `outcome` is its end in words. Raises SettingsError for an unknown model.
    """
    entries: list[Entry[Any]] = context.ledger.newest(*TOLD, models=[model], count=NEWEST)
    entries += context.ledger.newest(RolloutHolding, models=[model], count=SHOWN)
    entries.sort(key=lambda entry: entry.seq)
    begun = next((entry for entry in reversed(entries) if isinstance(entry.event, Opening)), None)
    if begun is None:
        if model not in context.params.models and model not in context.params.broken:
            raise SettingsError(f"model {model}", "is not known", "`perennial status` lists the models")
        return {"model": model, "kind": None, "going_on": False, "now": context.clock().isoformat()}
    since = [entry for entry in entries if entry.seq >= begun.seq]
    closings = [entry for entry in since if isinstance(entry.event, CLOSINGS)]
    going_on, event = not closings, begun.event
    asked = next((entry for entry in since if isinstance(entry.event, AbortAsked)), None)
    return {
        "model": model,
        "kind": KINDS[begun.kind],
        "going_on": going_on,
        "now": context.clock().isoformat(),
        "since": begun.at,
        "version": event.leaving[0] if begun.kind != "rollout_started" else event.version,
        "before": event.before if isinstance(event, RolloutStarted) else event.version,
        "strategy": getattr(event, "strategy", ""),
        "reason": event.reason,
        "asked_by": event.asked_by,
        "run": begun.run,
        "steps": _steps(context, model, begun, since, going_on),
        "shares": _shares(event, since) if going_on else _all_of(live_version(context.ledger, model)),
        **_waits(since, going_on),
        **_figures(context, model, begun, since, going_on),
        "called_back": asked and {"at": asked.at, "by": asked.event.asked_by, "reason": asked.event.reason},
        "cut_off": _cut_off(context, model) if going_on else "",
        "outcome": "; ".join(entry.event.sentence() for entry in closings),
        "ended": closings[-1].at if closings else None,
        "went_live": bool(closings) and isinstance(closings[-1].event, RolloutEnded),
        "events": [
            {"at": entry.at, "kind": entry.kind, "what": entry.event.sentence()}
            for entry in since[:1] + since[1:][-SHOWN:]
        ],
        "left_out": max(0, len(since) - 1 - SHOWN),
    }


def _steps(
    context: Context, model: str, begun: Entry[Any], since: list[Entry[Any]], going_on: bool
) -> list[dict[str, Any]]:
    """What a rollout goes through, in its order: `name`, and `at`, which is done, now, ahead or never."""
    event = begun.event
    if not isinstance(event, RolloutStarted):
        return []
    settings = _settings(context, model, event.version, since)
    names = ["starts and proves its golden requests"]
    names += {"shadow": ["copies of requests"], "replay": ["logged requests"]}.get(event.strategy, [])
    if settings is not None:
        names += [f"{percent} %" for percent in settings.percents(event.strategy)]
    names += [] if event.strategy == "shadow" else ["100 %, watched once more"]
    done = sum(
        isinstance(entry.event, SlotReady | StepBaked | Replayed | ShadowEnded | RolloutEnded) for entry in since
    )
    words = ["done"] * min(done, len(names))
    words += (["now"] if going_on else ["never"]) + ["ahead" if going_on else "never"] * len(names)
    return [{"name": name, "at": word} for name, word in zip(names, words, strict=False)]


def _settings(context: Context, model: str, version: str, since: list[Entry[Any]]) -> Rollout | None:
    """The settings that the candidate was started with; before it was, those of the model's block."""
    for entry in since:
        if isinstance(entry.event, SlotReady) and entry.event.version == version and entry.event.settings:
            return Rollout.model_validate(dict(entry.event.settings))
    return context.params.models[model].rollout if model in context.params.models else None


def _shares(event: Opening, since: list[Entry[Any]]) -> list[dict[str, Any]]:
    """Who gets which share while it goes on, by the newest move of the route: `version`, `percent`, `role` (live or candidate), `mirror`."""
    before, moved = _before(event), next((e.event for e in reversed(since) if isinstance(e.event, RouteMoved)), None)
    if moved is None:
        return _all_of(before)
    if moved.mirror:
        return [_share(before, 100, "live"), _share(moved.to, moved.percent, "candidate", mirror=True)]
    if moved.percent == 100 or not before:
        if before in ("", moved.to):
            return [_share(moved.to, moved.percent, "candidate" if not before else "live")]
        return [_share(before, 0, "live"), _share(moved.to, 100, "candidate")]
    return [_share(before, 100 - moved.percent, "live"), _share(moved.to, moved.percent, "candidate")]


def _all_of(live: str) -> list[dict[str, Any]]:
    return [_share(live, 100, "live")] if live else []


def _share(version: str, percent: int, role: str, mirror: bool = False) -> dict[str, Any]:
    return {"version": version, "percent": percent, "role": role, "mirror": mirror}


def _before(event: Opening) -> str:
    """The version that was live when it began; '' for none."""
    if isinstance(event, RolloutStarted):
        return event.before or ""
    return event.leaving[0]


def _waits(since: list[Entry[Any]], going_on: bool) -> dict[str, Any]:
    """`waits_for`: why the step is held; `needs`: what it needs, as it was said before it began."""
    if not going_on:
        return {"waits_for": "", "needs": ""}
    needs = next((entry for entry in reversed(since) if isinstance(entry.event, EvidenceNeeded)), None)
    held = next((e for e in reversed(since) if isinstance(e.event, RolloutHolding | RouteMoved)), None)
    why = held.event.reason if held is not None and isinstance(held.event, RolloutHolding) else ""
    return {"waits_for": why, "needs": needs.event.sentence() if needs is not None else ""}


def _figures(
    context: Context, model: str, begun: Entry[Any], since: list[Entry[Any]], going_on: bool
) -> dict[str, Any]:
    """`figures` of the step that goes on, or of the last one that ended; `verdict`, `looked` (when) and `unseen`: why there are none."""
    unseen = ""
    if going_on:
        try:
            look = traffic(context).newest_look(model)
        except RolloutError as error:
            look, unseen = None, str(error)
        if look is not None and look.get("rollout") == begun.seq:
            told = {"verdict": look["verdict"], "why": look["reason"], "looked": look["at"], "unseen": ""}
            return {"figures": look["looks"], **told}
    judged = next((entry for entry in reversed(since) if isinstance(entry.event, Judged)), None)
    if judged is None:
        return {"figures": [], "verdict": "", "why": "", "looked": None, "unseen": unseen}
    event = judged.event
    told = {"verdict": event.verdict, "why": event.reason, "looked": judged.at, "unseen": unseen}
    return {"figures": [dict(look) for look in event.looks], **told}


def _cut_off(context: Context, model: str) -> str:
    """That nobody carries it out any more, and what helps; '' where somebody does."""
    try:
        holder = lease.holder(context.ledger, model)
    except LedgerError:
        return ""
    if holder is None or holder.is_alive:
        return ""
    return f"nobody carries it out any more; `perennial reconcile {model}` finishes or undoes it"


def _for_a_script(facts: dict[str, Any]) -> str:
    """JSON that ends no script element, whatever a reason says."""
    return json.dumps(facts).replace("<", "\\u003c")
