"""The watch after a rollout: when labels mature, days later, champion and predecessor are compared on the same rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.ledger.table import Event
from pipeline.ledger.timeline import live_at, predecessor
from pipeline.runs import Setup


def watch(setup: Setup, run: str, name: str, as_of: datetime) -> dict[str, Any]:
    """Compares the champion with its predecessor, and rolls back when it is proven worse.

    Labels known at `as_of` count. Writes a "watched" event. Returns {"decision", "reason", "rows", "rollback", …}; the
    decision is "keep" when there is nothing to watch.
    """
    from pipeline.policy import watch as policy
    from pipeline.rollout import back

    settings = setup.params.model(name).rollout
    live = live_at(setup.ledger, name)
    before = predecessor(setup.ledger, name, live["version"]) if live else None
    if live is None or before is None:
        return _nothing(f"{name} has no predecessor to compare with")
    since = datetime.fromisoformat(live["since"])
    if datetime.now(UTC) - since > timedelta(days=settings.watch_days):
        return _nothing(f"version {live['version']} has been live for more than {settings.watch_days:g} days")
    champion, old = _losses(setup, name, live["version"], before, as_of)
    limits = settings.limits
    watched = policy.compare(champion, old, limits.alpha, limits.min_requests)
    body = {**watched.as_dict(), "champion": live["version"], "predecessor": before, "as_of": as_of.isoformat()}
    setup.ledger.append(Event("watched", name, run, "watch", body))
    rollback = None
    if watched.decision == "roll back":
        reason = f"labels have matured: {watched.reason}"
        rollback = back.rollback(setup.site(run), name, settings, reason)
    return {**body, "rollback": rollback}


def _nothing(reason: str) -> dict[str, Any]:
    return {"decision": "keep", "reason": reason, "rows": 0, "rollback": None}


def _losses(setup: Setup, name: str, champion: str, before: str, as_of: datetime) -> tuple[Any, Any]:
    """The losses of both versions, each of shape (rows,), on what the champion was asked and whose label is known."""
    from pipeline import registry, signing
    from pipeline.drift import live
    from pipeline.evaluation import PREDICTION, bounded_loss
    from pipeline.rollout.slots import predictions_folder
    from pipeline.serving.runtime import Runtime

    model = setup.params.model(name)
    start = as_of - timedelta(days=model.rollout.watch_days + model.monitor.window_days)
    asked = live.predictions(predictions_folder(setup.home, name), model, start, as_of)
    asked = asked[asked["version"] == champion]
    labelled = (
        live.labels(model, setup.project, start, as_of, name, signing.log_key(setup.home))
        if len(asked)
        else live.NO_LABELS
    )
    rows = live.with_labels(asked, labelled)
    old = Runtime.load(registry.package_folder(setup.home, name, before)).predict_frame(rows)
    target = rows["target"].to_numpy(dtype="float64")
    return (
        bounded_loss(model.training.task, target, rows[PREDICTION].to_numpy(dtype="float64"), old),
        bounded_loss(model.training.task, target, old, rows[PREDICTION].to_numpy(dtype="float64")),
    )
