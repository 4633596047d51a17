"""The losses of a model's versions on its own requests, window by window: what a policy decides by.

Windows are of `policy.window_days` and begin at multiples of that since a Monday of 1970, so that each look of a week sees the same ones.
Whole windows are scored once, when their labels have matured, by the labels that are known then; the ledger keeps the losses. So a look
that is repeated sees what it saw. Past versions are scored by their packages: nothing is trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipeline.context import Context
from pipeline.ledger.events import DriftChecked, VersionRegistered
from pipeline.ledger.package_of_version import PackageOfVersion
from pipeline.ledger.receipt_events import WindowScored
from pipeline.ledger.rollout_events import MOVES
from pipeline.ledger.store import Ledger
from pipeline.ledger.timeline import LiveVersion
from pipeline.runs import label_maturity, slow_labels, window_scores
from pipeline.runs.window_scores import MIN_ROWS, MONDAY, KeptVersion, Wanted, Window
from pipeline.settings.models import time_of

if TYPE_CHECKING:
    import numpy as np

    from pipeline.policy.retraining.base import Known


# The newest versions that were live, which may be gone back to; and the newest windows that are scored. Older windows count as they were
# scored once: what a version lost when it was new tells how much more it loses now.
KEPT_VERSIONS = 12
SCORED_WINDOWS = 26
# What is older than this counts as this old.
OLDEST_WINDOWS = 104


class NoHistory(Exception):
    """Nobody knows what the live version learnt from, so nobody knows how old it is; str() says why."""


@dataclass(frozen=True)
class LiveHistory:
    """`known` is what a policy sees; its versions are `versions`, and its windows begin at `starts`. `labelled` (windows,) counts the rows;
    `requests` are those of the windows that had some."""

    known: Known
    versions: tuple[KeptVersion, ...]
    starts: tuple[datetime, ...]
    labelled: np.ndarray
    requests: tuple[int, ...] = ()


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
        if not live.digest:
            raise NoHistory(f"the ledger says neither as of when version {live.version} was trained nor what it is")
        # It is at least as old as the time for which it has been live, and has learnt from nothing since.
        live_since = KeptVersion(live.package, time_of(live.since), as_of_known=False)
        kept = sorted([*kept[-KEPT_VERSIONS + 1 :], live_since], key=lambda each: each.as_of)
    current = _index(as_of, period)
    born = [math.ceil((each.as_of - MONDAY) / period) for each in kept]
    scored = _due(context, run, name, live, as_of, kept, born)
    since = _without_labels_since(scored)
    if since is not None and slow_labels.measured_anew(context, run, name, as_of, since):
        scored = _due(context, run, name, live, as_of, kept, born)
    oldest = [_index(time_of(each.start), period) for each in scored[:1]]
    first = max(min([*born, *oldest, current]), current - OLDEST_WINDOWS)
    starts = tuple(MONDAY + i * period for i in range(first, current))
    drifted = alarms_at(context.ledger, name, starts, as_of, lambda look: look.verdict == "drift")
    # A version of this very window, or of after the look, is new: it has no age yet.
    places = [min(max(b, first), current) - first for b in born]
    return _of_windows(live, kept, places, starts, scored, retrain_cost, drifted)


def _due(
    context: Context,
    run: str,
    name: str,
    live: LiveVersion,
    as_of: datetime,
    kept: Sequence[KeptVersion],
    born: Sequence[int],
) -> list[WindowScored]:
    """The windows since the oldest of the versions was `born` whose labels are due at `as_of`, in their order."""
    model = context.params.model(name)
    period = timedelta(days=model.policy.window_days)
    mature = label_maturity.mature_after(model, label_maturity.measured(context, name, as_of))
    last = _index(as_of - mature, period)
    wanted = range(max(min(born, default=last), last - OLDEST_WINDOWS), last)
    return _scored(context, run, name, live, [Window(i, period, mature) for i in wanted], kept)


def _without_labels_since(scored: Sequence[WindowScored]) -> datetime | None:
    """The start of the windows since the newest one with labels in which many asked; None where there are none such."""
    since = None
    for window in reversed(scored):
        if window.labelled >= MIN_ROWS:
            break
        if window.requests >= MIN_ROWS:
            since = time_of(window.start)
    return since


def kept_versions(ledger: Ledger, name: str, live: LiveVersion) -> list[KeptVersion]:
    """The live package and those that were live before it, by their as-of, the newest KEPT_VERSIONS; without those whose as-of nobody
    knows, as of versions that another home trained."""
    # By version and digest, as text: of years of moves a dozen are made objects of.
    found: dict[tuple[str, str], str] = {}
    as_of: dict[str, str] = {}
    registered = iter(ledger.events(VersionRegistered, model=name))
    coming = next(registered, None)
    for move in ledger.events(*MOVES, model=name):
        # A number may come again: it is of the version that was registered last before the move.
        while coming is not None and coming.seq < move.seq:
            as_of[coming.event.version] = coming.event.as_of
            coming = next(registered, None)
        version, digest = move.event.version, move.event.digest
        if digest and version in as_of:
            found[version, digest] = as_of[version]
    times = {package: time_of(at) for package, at in found.items()}
    versions = sorted(times, key=times.__getitem__)[-KEPT_VERSIONS:]
    own = (live.version, live.digest)
    if own in times and own not in versions:
        versions = [own, *versions[1:]]
    return [KeptVersion(PackageOfVersion(*package), times[package]) for package in versions]


def _index(at: datetime, period: timedelta) -> int:
    return (at - MONDAY) // period


def _scored(
    context: Context, run: str, name: str, live: LiveVersion, windows: Sequence[Window], kept: Sequence[KeptVersion]
) -> list[WindowScored]:
    """The losses in each window of those that were trained before it, by the ledger as far as it has them."""
    loss = context.params.model(name).loss
    known: dict[tuple[str, str], list[WindowScored]] = {}
    for entry in context.ledger.events(WindowScored, model=name):
        if entry.event.loss == loss:
            known.setdefault((entry.event.start, entry.event.end), []).append(entry.event)
    wanted = []
    for window in windows[-SCORED_WINDOWS:]:
        same = known.get(_key(window), [])
        tried = {digest for event in same for digest in (*event.losses, *event.left_out)}
        old_enough = [each for each in kept if each.as_of <= window.start]
        if missing := [each for each in old_enough if each.package.digest not in tried]:
            wanted.append(Wanted(window, missing))
    new: dict[tuple[str, str], WindowScored] = {}
    for part in window_scores.score(context, name, live, wanted, kept):
        context.ledger.append_all([event for event in part if event.labelled >= MIN_ROWS], name, run)
        new |= {(event.start, event.end): event for event in part}
    return [_together(window, loss, known.get(_key(window), []), new.get(_key(window))) for window in windows]


def _key(window: Window) -> tuple[str, str]:
    return window.start.isoformat(), window.end.isoformat()


def _together(window: Window, loss: str, same: Sequence[WindowScored], new: WindowScored | None) -> WindowScored:
    """What the ledger had of a window, and what was scored now; of several the first counts, so that each look sees the same."""
    first = new or (same[0] if same else _nothing(window, loss))
    losses = {digest: value for event in reversed(same) for digest, value in event.losses.items()}
    return WindowScored.read({**first.body(), "losses": {**first.losses, **losses}})


def _nothing(window: Window, loss: str) -> WindowScored:
    start, end = _key(window)
    return WindowScored(start=start, end=end, as_of="", loss=loss, requests=0, labelled=0)


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
    return LiveHistory(known, tuple(kept), starts, labelled, tuple(w.requests for w in scored if w.requests))


def alarms_at(
    ledger: Ledger, name: str, starts: tuple[datetime, ...], as_of: datetime, alarming: Callable[[DriftChecked], bool]
) -> np.ndarray:
    """In which windows, and in the one that goes on, a look up to `as_of` was `alarming`: bool (windows + 1,)."""
    import numpy as np

    found = np.zeros(len(starts) + 1, dtype=bool)
    times = [start.timestamp() for start in starts]
    for entry in ledger.events(DriftChecked, model=name):
        if times and time_of(entry.event.as_of) <= as_of and alarming(entry.event):
            place = int(np.searchsorted(times, time_of(entry.event.as_of).timestamp(), side="right")) - 1
            if place >= 0:
                found[place] = True
    return found
