"""The watch after a rollout: when labels mature, days later, champion and predecessor are compared on the same rows.

It brings back only what nobody has gone back from, and never disturbs a rollout that is going on. What keeps it from
comparing is said, and keeps nobody else from anything: the decision is "keep" then.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.context import Context
from pipeline.deployer import traffic
from pipeline.errors import LeaseBusy, PerennialError
from pipeline.ledger.events import Watched
from pipeline.ledger.timeline import live_at, trusted_predecessor


def watch(context: Context, run: str, name: str, as_of: datetime) -> dict[str, Any]:
    """Compares the champion with its predecessor, and rolls back when it is proven worse.

    Labels known at `as_of` count. Writes a "watched" event. Returns {"decision", "reason", "rows", "rollback", …}; the
    decision is "keep" when there is nothing to watch.
    """
    from pipeline.policy import watch as policy
    from pipeline.rollout.recovery import open_rollout

    settings = context.params.model(name).rollout
    live = live_at(context.ledger, name)
    before = trusted_predecessor(context.ledger, name, live.version) if live else None
    if live is None or before is None:
        return _nothing(f"{name} has no predecessor to compare with")
    if open_rollout(context.ledger, name) is not None:
        return _nothing(f"a rollout of {name} is going on, it is left alone")
    since = datetime.fromisoformat(live.since)
    if datetime.now(UTC) - since > timedelta(days=settings.watch_days):
        return _nothing(f"version {live.version} has been live for more than {settings.watch_days:g} days")
    try:
        champion, old = _losses(context, name, live.version, before, as_of)
    except Incomparable as error:
        return _nothing(f"versions {live.version} and {before} cannot be compared: {error}")
    limits = settings.limits
    watched = policy.compare(champion, old, limits.alpha, limits.min_requests)
    told = {**watched.as_dict(), "champion": live.version, "predecessor": before, "as_of": as_of.isoformat()}
    context.ledger.append(Watched.read(told), name, run, "watch")
    if watched.decision == "keep":
        return {**told, "rollback": None}
    return told | _rolled_back(context, run, name, live.version, before, watched.reason)


def _rolled_back(context: Context, run: str, name: str, champion: str, before: str, why: str) -> dict[str, Any]:
    try:
        done = traffic(context).replace(run, name, f"labels have matured: {why}", champion, before)
        return {"rollback": done.as_dict()}
    except LeaseBusy:
        return {"decision": "keep", "reason": f"{why}; but a rollout is going on, it is left alone", "rollback": None}


def _nothing(reason: str) -> dict[str, Any]:
    return {"decision": "keep", "reason": reason, "rows": 0, "rollback": None}


class Incomparable(Exception):
    """Two versions that cannot be compared on the same rows; str() says why."""


def _losses(context: Context, name: str, champion: str, before: str, as_of: datetime) -> tuple[Any, Any]:
    """The losses of both versions, each of shape (rows,), on what the champion was asked and whose label is known.

    They stand in the order in which the labels came, so that each look goes on where the last one ended.
    """
    from pipeline.monitoring import live_quality
    from pipeline.training.evaluate import PREDICTION, bounded_loss

    model = context.params.model(name)
    start = as_of - timedelta(days=model.rollout.watch_days + model.monitor.window_days)
    asked, _ = traffic(context).predictions(name, start, as_of)
    asked = asked[asked["version"] == champion]
    labelled = (
        live_quality.labels(model, context.project, start, as_of, name, context.registry.key.log_key())
        if len(asked)
        else live_quality.NO_LABELS
    )
    rows = live_quality.with_labels(asked, labelled)
    if len(rows):
        rows = rows.sort_values(["known", "key"])
    old = _answers(context, name, before, rows)
    target = rows["target"].to_numpy(dtype="float64")
    new = rows[PREDICTION].to_numpy(dtype="float64")
    return bounded_loss(model.training.task, target, new, old), bounded_loss(model.training.task, target, old, new)


def _answers(context: Context, name: str, version: str, rows: Any) -> Any:
    """What the version says to the rows, of shape (rows,). Raises Incomparable."""
    from pipeline.serving.errors import PackageRefused
    from pipeline.serving.runtime import Runtime

    try:
        runtime = Runtime.load(context.registry.package_folder(name, version))
        personal = context.params.model(name).rollout.serving.personal
        if hidden := [feature for feature in runtime.features if feature in personal]:
            raise Incomparable(f"{', '.join(hidden)} is personal and not in the prediction log")
        if missing := [feature for feature in runtime.features if feature not in rows.columns]:
            raise Incomparable(f"version {version} wants {', '.join(missing)}, which nobody is asked for any more")
        return runtime.predict_frame(rows)
    except (PackageRefused, PerennialError, OSError, ValueError, KeyError) as error:
        raise Incomparable(f"version {version} does not answer them ({error})") from error
