"""The losses of a model's versions on its own requests, window by window: what a policy decides by.

Windows are of `policy.window_days` and begin at multiples of that since a Monday of 1970, so that each look of a week sees the same ones.
Whole windows are scored once, when their labels have matured, by the labels that are known then; the ledger keeps the losses. So a look
that is repeated sees what it saw. Past versions are scored by their packages: nothing is trained.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pipeline.context import Context
from pipeline.deployer import traffic
from pipeline.ledger.events import DriftChecked, VersionRegistered
from pipeline.ledger.package_of_version import PackageOfVersion
from pipeline.ledger.receipt_events import WindowScored
from pipeline.ledger.rollout_events import MOVES
from pipeline.ledger.store import Ledger
from pipeline.ledger.timeline import LiveVersion
from pipeline.runs import label_maturity, logged_answers
from pipeline.settings.models import time_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pipeline.policy.retraining.base import Known

log = logging.getLogger(__name__)

MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
# The newest versions that were live, which may be gone back to; and the newest windows that are scored.
KEPT_VERSIONS = 6
SCORED_WINDOWS = 26
# What is older than this counts as this old.
OLDEST_WINDOWS = 104
# Of a window with more requests so many are scored, the same ones each time.
SAMPLE_ROWS = 50_000
# The mean loss of fewer rows says next to nothing.
MIN_ROWS = 30


@dataclass(frozen=True)
class KeptVersion:
    """A package that was live, and the as-of of the run that trained it."""

    package: PackageOfVersion
    as_of: datetime


class NoHistory(Exception):
    """Nobody knows what the live version learnt from, so nobody knows how old it is; str() says why."""


@dataclass(frozen=True)
class LiveHistory:
    """`known` is what a policy sees; its versions are `versions`, and its windows begin at `starts`. `labelled` (windows,) counts the rows."""

    known: Known
    versions: tuple[KeptVersion, ...]
    starts: tuple[datetime, ...]
    labelled: np.ndarray


def live_history(
    context: Context, run: str, name: str, live: LiveVersion, as_of: datetime, retrain_cost: float = math.nan
) -> LiveHistory:
    """What is known at `as_of` of the losses of the newest versions. Scores the windows that have matured since the last time.

    `retrain_cost` is in units of loss times windows, NaN while nobody knows it. Raises NoHistory.
    """
    model = context.params.model(name)
    period = timedelta(days=model.policy.window_days)
    kept = kept_versions(context.ledger, name, live)
    if live.package not in [each.package for each in kept]:
        raise NoHistory(f"the ledger does not say as of when version {live.version} was trained")
    current = _index(as_of, period)
    mature = label_maturity.mature_after(model, label_maturity.measured(context, name, as_of))
    last = _index(as_of - mature, period)
    born = [math.ceil((each.as_of - MONDAY) / period) for each in kept]
    wanted = range(max(min(born, default=last), last - SCORED_WINDOWS), last)
    scored = [_scored(context, run, name, live, Window(i, period, mature), kept) for i in wanted]
    first = max(min([*born, *wanted, current]), current - OLDEST_WINDOWS)
    starts = tuple(MONDAY + i * period for i in range(first, current))
    drifted = _drifted(context.ledger, name, starts, as_of)
    return _of_windows(live, kept, [max(b - first, 0) for b in born], starts, scored, retrain_cost, drifted)


@dataclass(frozen=True)
class Window:
    """The window number `index`, counted from MONDAY. Its labels are known `mature` after its end."""

    index: int
    period: timedelta
    mature: timedelta

    @property
    def start(self) -> datetime:
        return MONDAY + self.index * self.period

    @property
    def end(self) -> datetime:
        return self.start + self.period


def kept_versions(ledger: Ledger, name: str, live: LiveVersion) -> list[KeptVersion]:
    """The live package and those that were live before it, by their as-of, the newest KEPT_VERSIONS; without those whose as-of nobody
    knows, as of versions that another home trained."""
    found: dict[PackageOfVersion, KeptVersion] = {}
    registered = ledger.events(VersionRegistered, model=name)
    for move in ledger.events(*MOVES, model=name):
        package = PackageOfVersion(move.event.version, move.event.digest or "")
        before = [r for r in registered if r.event.version == package.version and r.seq < move.seq]
        if before and package.digest:
            found[package] = KeptVersion(package, time_of(before[-1].event.as_of))
    versions = sorted(found.values(), key=lambda kept: kept.as_of)[-KEPT_VERSIONS:]
    own = found.get(live.package)
    return versions if own is None or own in versions else [own, *versions[1:]]


def _index(at: datetime, period: timedelta) -> int:
    return (at - MONDAY) // period


def _scored(
    context: Context, run: str, name: str, live: LiveVersion, window: Window, kept: Sequence[KeptVersion]
) -> WindowScored:
    """The losses in the window of those that were trained before it, by the ledger as far as it has them."""
    model = context.params.model(name)
    old_enough = [each for each in kept if each.as_of <= window.start]
    same = [
        entry.event
        for entry in context.ledger.events(WindowScored, model=name)
        if (entry.event.start, entry.event.end, entry.event.loss)
        == (window.start.isoformat(), window.end.isoformat(), model.loss)
    ]
    # Of several the first counts: so each look sees the same.
    losses = {digest: loss for event in reversed(same) for digest, loss in event.losses.items()}
    tried = {digest for event in same for digest in (*event.losses, *event.left_out)}
    missing = [each for each in old_enough if each.package.digest not in tried]
    if not missing:
        return WindowScored.read({**same[0].body(), "losses": losses}) if same else _nothing(window, model.loss)
    new = score(context, name, live, window, missing, kept)
    if new.labelled >= MIN_ROWS:
        context.ledger.append(new, name, run)
    return WindowScored.read({**new.body(), "losses": {**new.losses, **losses}})


def _nothing(window: Window, loss: str) -> WindowScored:
    start, end = window.start.isoformat(), window.end.isoformat()
    return WindowScored(start=start, end=end, as_of="", loss=loss, requests=0, labelled=0)


def score(
    context: Context,
    name: str,
    live: LiveVersion,
    window: Window,
    versions: Sequence[KeptVersion],
    kept: Sequence[KeptVersion],
) -> WindowScored:
    """Scores the versions, some of those `kept`, on the window's requests whose labels have come."""
    from pipeline.monitoring import label_join, live_quality
    from pipeline.monitoring.derived_keys import WEIGHT

    model = context.params.model(name)
    at = window.end + window.mature
    asked = traffic(context).profile(name, live.version, live.digest, window.start, window.end).profile.rows
    share = min(1.0, SAMPLE_ROWS / max(asked, 1))
    requests = traffic(context).predictions(name, window.start, window.end, share).rows
    labels = (
        live_quality.labels(model, context.project, window.start, at, name, context.registry.key.log_key(), window.end)
        if len(requests)
        else live_quality.NO_LABELS
    )
    rows = label_join.with_labels(requests, labels, timedelta(seconds=model.monitor.label_tolerance_s))
    weight = rows[WEIGHT].to_numpy() if WEIGHT in rows.columns else None
    counts = len(rows) if weight is None else int((weight > 0).sum())
    losses, left_out = _losses(context, name, live, rows, weight, versions) if counts >= MIN_ROWS else ({}, {})
    return WindowScored(
        start=window.start.isoformat(),
        end=window.end.isoformat(),
        as_of=at.isoformat(),
        loss=model.loss,
        requests=asked,
        labelled=round(counts / share),
        losses=losses,
        served=_served(rows, kept, live),
        left_out=left_out,
    )


def _losses(
    context: Context,
    name: str,
    live: LiveVersion,
    rows: pd.DataFrame,
    weight: np.ndarray | None,
    versions: Sequence[KeptVersion],
) -> tuple[dict[str, float], dict[str, str]]:
    """(mean losses by digest, why others have none)."""
    import numpy as np

    from pipeline.training import economic_loss

    model, target = context.params.model(name), rows["target"].to_numpy()
    losses: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for each in versions:
        try:
            answers = logged_answers.answers_of(context, name, each.package, rows, live)
            losses[each.package.digest] = float(
                np.average(economic_loss.of_rows(model, target, answers), weights=weight)
            )
        except logged_answers.Incomparable as error:
            left_out[each.package.digest] = str(error)
            log.warning(
                "%s: version %s has no loss from %s on: %s", name, each.package.version, rows["event_time"].min(), error
            )
    return losses, left_out


def _served(rows: pd.DataFrame, versions: Sequence[KeptVersion], live: LiveVersion) -> str:
    """The digest of the version that answered most of the rows; '' when it is none of these."""
    if not len(rows):
        return ""
    most = str(rows["version"].mode().iloc[0])
    found = [each.package.digest for each in versions if each.package.version == most]
    return live.digest if most == live.version else found[-1] if found else ""


def _of_windows(
    live: LiveVersion,
    kept: Sequence[KeptVersion],
    born: Sequence[int],
    starts: tuple[datetime, ...],
    scored: Sequence[WindowScored],
    retrain_cost: float,
    drifted: np.ndarray,
) -> LiveHistory:
    import numpy as np

    from pipeline.policy.retraining.base import Known

    now, place = len(starts), {start.isoformat(): i for i, start in enumerate(starts)}
    digests = [each.package.digest for each in kept]
    losses, labelled = np.full((len(kept), now), np.nan), np.zeros(now, dtype="int64")
    served = np.full(now, -1)
    for window in scored:
        if window.start not in place:
            continue
        w = place[window.start]
        labelled[w] = window.labelled
        served[w] = digests.index(window.served) if window.served in digests else -1
        for v, digest in enumerate(digests):
            if digest in window.losses and born[v] <= w:
                losses[v, w] = window.losses[digest]
    for w in range(1, now):
        # In a window without labelled requests the version of the one before stayed.
        served[w] = served[w - 1] if served[w] == -1 else served[w]
    usual = np.median(labelled[labelled > 0]) if labelled.any() else 1.0
    known = Known(
        now,
        losses,
        np.array(born, dtype="int64"),
        labelled / usual,
        served,
        digests.index(live.digest),
        retrain_cost,
        drifted,
        tuple(each.package.version for each in kept),
    )
    return LiveHistory(known, tuple(kept), starts, labelled)


def _drifted(ledger: Ledger, name: str, starts: tuple[datetime, ...], as_of: datetime) -> np.ndarray:
    """In which windows, and in the one that goes on, a look up to `as_of` saw drift: bool (windows + 1,)."""
    import numpy as np

    found = np.zeros(len(starts) + 1, dtype=bool)
    times = [start.timestamp() for start in starts]
    for entry in ledger.events(DriftChecked, model=name):
        if entry.event.verdict == "drift" and times and time_of(entry.event.as_of) <= as_of:
            place = int(np.searchsorted(times, time_of(entry.event.as_of).timestamp(), side="right")) - 1
            if place >= 0:
                found[place] = True
    return found
