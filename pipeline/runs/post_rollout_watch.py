"""The watch after a rollout: when labels mature, days later, champion and predecessor are compared on the same rows.

It never goes back to a version that was itself rolled back, and never disturbs another rollout. When the versions cannot be
compared, the decision is "keep" and the reason says why.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from pipeline.context import Context
from pipeline.deployer import traffic
from pipeline.errors import LeaseBusy
from pipeline.ledger.events import Watched
from pipeline.ledger.package_of_version import PackageOfVersion
from pipeline.ledger.timeline import LiveVersion, live_at, trusted_predecessor
from pipeline.rollout.results import Rollback
from pipeline.runs import label_maturity, logged_answers
from pipeline.runs.logged_answers import Incomparable
from pipeline.training.tasks import Answers

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class WatchResult:
    """The decision and its reason; `comparison` is None when no rows were compared.

    `rollback` is set when the champion was rolled back. The comparison may say "roll back" and the decision still be
    "keep", while another rollout holds the lease.
    """

    decision: Literal["roll back", "keep"]
    reason: str
    comparison: Watched | None = None
    rollback: Rollback | None = None

    @property
    def rows(self) -> int:
        """How many labelled rows were compared."""
        return self.comparison.rows if self.comparison else 0

    def as_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = {"decision": self.decision, "reason": self.reason, "rows": self.rows}
        if compared := self.comparison:
            values |= {
                "excess": compared.excess,
                "low": compared.low,
                "champion": compared.champion,
                "predecessor": compared.predecessor,
                "as_of": compared.as_of,
            }
        return {**values, "rollback": self.rollback.as_dict() if self.rollback else None}


def watch(context: Context, run: str, name: str, as_of: datetime) -> WatchResult:
    """Compares the champion with its predecessor on rows whose labels are known at `as_of`; rolls back on a proven loss.

    Writes a Watched event when the two were compared.
    """
    from pipeline.policy import watch as policy
    from pipeline.rollout.recovery import open_rollout

    settings = context.params.model(name).rollout
    live = live_at(context.ledger, name)
    before = trusted_predecessor(context.ledger, name, live.package) if live else None
    if live is None or before is None:
        return WatchResult("keep", f"{name} has no predecessor to compare with")
    if open_rollout(context.ledger, name) is not None:
        return WatchResult("keep", f"a rollout of {name} is going on, it is left alone")
    champion, predecessor, since = live.version, before.version, datetime.fromisoformat(live.since)
    if datetime.now(UTC) - since > timedelta(days=settings.watch_days):
        return WatchResult("keep", f"version {champion} has been live for more than {settings.watch_days:g} days")
    try:
        new, old, weight = _losses(context, name, live, before, as_of)
    except Incomparable as error:
        return WatchResult("keep", f"versions {champion} and {predecessor} cannot be compared: {error}")
    judged = policy.compare(new, old, settings.limits.alpha, settings.limits.min_requests, weight)
    late = [line for line in label_maturity.unreached(context, name, as_of) if "rollout.watch_days" in line]
    if judged.low is None and late:
        judged = replace(judged, reason="; ".join([judged.reason, *late]))
    versions = {"champion": champion, "predecessor": predecessor, "as_of": as_of.isoformat()}
    watched = Watched.read({**judged.as_dict(), **versions})
    context.ledger.append(watched, name, run, "watch")
    if judged.decision == "keep":
        return WatchResult("keep", watched.reason, watched)
    return _rolled_back(context, run, name, watched)


def _rolled_back(context: Context, run: str, name: str, watched: Watched) -> WatchResult:
    reason, champion, predecessor = watched.reason, watched.champion, watched.predecessor
    try:
        rollback = traffic(context).replace(run, name, f"labels have matured: {reason}", champion, predecessor)
    except LeaseBusy:
        return WatchResult("keep", f"{reason}; but a rollout is going on, it is left alone", watched)
    return WatchResult("roll back", reason, watched, rollback)


def _losses(
    context: Context, name: str, champion: LiveVersion, predecessor: PackageOfVersion, as_of: datetime
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(the champion's losses, its predecessor's, the rows' weights), each of shape (rows,), on the champion's requests with a known label.
    A row whose weight is none is not among them; without training.weight there are no weights.

    The rows are in the order in which their labels came, so that each look continues where the last one ended.
    """
    from pipeline.monitoring import label_join, live_quality
    from pipeline.monitoring.derived_keys import WEIGHT
    from pipeline.training import tasks

    model = context.params.model(name)
    start = as_of - timedelta(days=model.rollout.watch_days + model.monitor.window_days)
    requests = traffic(context).predictions(name, start, as_of).rows
    requests = live_quality.answered_by(requests, context.ledger, name, champion)
    labels = (
        live_quality.labels(model, context.project, start, as_of, name, context.registry.key.log_key())
        if len(requests)
        else live_quality.NO_LABELS
    )
    rows = label_join.with_labels(requests, labels, timedelta(seconds=model.monitor.label_tolerance_s))
    if len(rows):
        rows = rows.sort_values(["known", "key"])
    old = logged_answers.answers_of(context, name, predecessor, rows, champion)
    target = rows["target"].to_numpy()
    new = Answers.of(rows, tuple(logged_answers.manifest_of(context, name, champion).get("classes", ())))
    task = tasks.of(model.training)
    weight = rows[WEIGHT].to_numpy() if WEIGHT in rows.columns else None
    return task.losses(target, new, old), task.losses(target, old, new), weight
