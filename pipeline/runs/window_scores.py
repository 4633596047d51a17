"""Scores versions on the logged requests of many windows at once: log and source are read once for all of them, each version is loaded once.

A window is scored by the labels that were known when they were due, whatever is known by now, so it does not matter when it is scored, or
beside which other windows. Only what no memory would hold is read in parts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipeline.context import Context
from pipeline.deployer import traffic
from pipeline.ledger.package_of_version import PackageOfVersion
from pipeline.ledger.receipt_events import WindowScored
from pipeline.ledger.timeline import LiveVersion
from pipeline.runs import logged_answers

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pipeline.settings.models import Model

log = logging.getLogger(__name__)

MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
# Of a window with more requests so many are scored, the same ones each time.
SAMPLE_ROWS = 50_000
# So many requests are read at once.
AT_ONCE = 250_000
# The mean loss of fewer rows says next to nothing.
MIN_ROWS = 30


@dataclass(frozen=True)
class KeptVersion:
    """A package that was live, and the as-of of the run that trained it; where nobody knows that, when it went live."""

    package: PackageOfVersion
    as_of: datetime
    as_of_known: bool = True


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

    @property
    def known_at(self) -> datetime:
        return self.end + self.mature


@dataclass(frozen=True)
class Wanted:
    """A window, and the versions that have no loss on it yet."""

    window: Window
    versions: Sequence[KeptVersion]


@dataclass(frozen=True)
class _Part:
    """Windows that are read together, `share` of their requests; `asked` are the requests of each by its index, where they are known."""

    wanted: Sequence[Wanted]
    share: float = 1.0
    asked: dict[int, int] = field(default_factory=dict)


def score(
    context: Context, name: str, live: LiveVersion, wanted: Sequence[Wanted], kept: Sequence[KeptVersion]
) -> Iterator[list[WindowScored]]:
    """The windows' losses, part by part, in the order of their time. `kept` are all versions that may have answered."""
    runtimes: dict[PackageOfVersion, Any] = {}
    parts = _parts(context, name, live, wanted)
    while parts:
        part = parts.pop(0)
        requests = traffic(context).predictions(
            name, part.wanted[0].window.start, part.wanted[-1].window.end, part.share
        )
        place = _places(requests.rows["event_time"], part.wanted[0].window.period)
        asked = part.asked or {each.window.index: int((place == each.window.index).sum()) for each in part.wanted}
        if part.share == 1 and max(asked.values()) > SAMPLE_ROWS:
            parts[:0] = _small(part.wanted, asked)
            continue
        yield _scored(context, name, live, part, requests.rows, asked, kept, runtimes)


def _parts(context: Context, name: str, live: LiveVersion, wanted: Sequence[Wanted]) -> list[_Part]:
    if not wanted:
        return []
    first = wanted[0].window
    if traffic(context).predictions(name, first.start, first.start).logged <= AT_ONCE:
        return [_Part(wanted)]
    asked = {}
    for each in wanted:
        of = traffic(context).profile(name, live.version, live.digest, each.window.start, each.window.end)
        asked[each.window.index] = of.profile.rows
    return _small(wanted, asked)


def _small(wanted: Sequence[Wanted], asked: dict[int, int]) -> list[_Part]:
    """Neighbours as long as their requests are at most AT_ONCE; a window with more than SAMPLE_ROWS by itself."""
    parts: list[list[Wanted]] = []
    for each in wanted:
        index = each.window.index
        before = [other.window.index for other in parts[-1]] if parts else []
        together = before and before[-1] == index - 1 and max(map(asked.__getitem__, [*before, index])) <= SAMPLE_ROWS
        if together and sum(map(asked.__getitem__, [*before, index])) <= AT_ONCE:
            parts[-1].append(each)
        else:
            parts.append([each])
    found = []
    for part in parts:
        of_part = {each.window.index: asked[each.window.index] for each in part}
        share = min(1.0, SAMPLE_ROWS / max(1, *of_part.values())) if len(part) == 1 else 1.0
        found.append(_Part(part, share, of_part))
    return found


def _places(times: pd.Series, period: timedelta) -> np.ndarray:
    """The index of the window of each time."""
    return ((_utc(times) - MONDAY) // period).to_numpy("int64")


def _utc(times: pd.Series) -> pd.Series:
    from pipeline.monitoring.label_join import TIME

    return (
        times.astype(TIME) if getattr(times.dtype, "tz", None) else times.astype("datetime64[us]").dt.tz_localize("UTC")
    )


def _scored(
    context: Context,
    name: str,
    live: LiveVersion,
    part: _Part,
    requests: pd.DataFrame,
    asked: dict[int, int],
    kept: Sequence[KeptVersion],
    runtimes: dict[PackageOfVersion, Any],
) -> list[WindowScored]:
    from pipeline.monitoring.derived_keys import WEIGHT

    model = context.params.model(name)
    rows = _labelled(context, name, model, part, requests)
    place = _places(rows["event_time"], part.wanted[0].window.period)
    weight = rows[WEIGHT].to_numpy() if WEIGHT in rows.columns else None
    counts, inside = {}, {}
    for each in part.wanted:
        mine = place == each.window.index
        counts[each.window.index] = int(mine.sum() if weight is None else (weight[mine] > 0).sum())
        inside[each.window.index] = mine
    enough = [each for each in part.wanted if counts[each.window.index] >= MIN_ROWS]
    losses: dict[int, dict[str, float]] = {each.window.index: {} for each in part.wanted}
    left_out: dict[int, dict[str, str]] = {each.window.index: {} for each in part.wanted}
    for version in kept:
        windows = [each.window.index for each in enough if version in each.versions]
        found, why = _losses(context, name, live, version, rows, weight, {w: inside[w] for w in windows}, runtimes)
        for window, loss in found.items():
            losses[window][version.package.digest] = loss
        for window, reason in why.items():
            left_out[window][version.package.digest] = reason
    return [
        WindowScored(
            start=each.window.start.isoformat(),
            end=each.window.end.isoformat(),
            as_of=each.window.known_at.isoformat(),
            loss=model.loss,
            requests=asked[each.window.index],
            labelled=round(counts[each.window.index] / part.share),
            losses=losses[each.window.index],
            served=_served(rows[inside[each.window.index]], kept, live),
            left_out=left_out[each.window.index],
        )
        for each in part.wanted
    ]


def _labelled(context: Context, name: str, model: Model, part: _Part, requests: pd.DataFrame) -> pd.DataFrame:
    """The requests of the part whose labels had come when they were due, with these."""
    import pandas as pd

    from pipeline.monitoring import label_join, live_quality

    tolerance = timedelta(seconds=model.monitor.label_tolerance_s)
    if not len(requests):
        return label_join.with_labels(requests, live_quality.NO_LABELS, tolerance)
    windows, log_key = [each.window for each in part.wanted], context.registry.key.log_key()

    def labels(first: Window, last: Window) -> pd.DataFrame:
        return live_quality.labels(model, context.project, first.start, last.known_at, name, log_key, last.end)

    # When a row arrived, no label says.
    apart = model.source.arrival_time is not None
    known = pd.concat([labels(w, w) for w in windows]) if apart else labels(windows[0], windows[-1])
    known = known.reset_index(drop=True)
    due = {window.index: window.known_at for window in windows}
    place = _places(known["event_time"], windows[0].period)
    by = pd.Series([due.get(index, pd.NaT) for index in place], dtype=label_join.TIME)
    in_time = (_utc(known["known"]) <= by).to_numpy(bool)
    known, place = known[in_time], place[in_time]
    if "timed" not in requests or requests["timed"].astype(bool).all():
        return label_join.with_labels(requests, known, tolerance)
    # A request without its time has a label by its key alone, which comes again in other windows.
    asked = _places(requests["event_time"], windows[0].period)
    each = [label_join.with_labels(requests[asked == w.index], known[place == w.index], tolerance) for w in windows]
    return pd.concat(each)


def _losses(
    context: Context,
    name: str,
    live: LiveVersion,
    version: KeptVersion,
    rows: pd.DataFrame,
    weight: np.ndarray | None,
    windows: dict[int, np.ndarray],
    runtimes: dict[PackageOfVersion, Any],
) -> tuple[dict[int, float], dict[int, str]]:
    """(the version's mean loss by window, why it has none in others). `windows` says which rows are in each."""
    import numpy as np

    from pipeline.training import economic_loss

    if not windows:
        return {}, {}
    together = np.logical_or.reduce([*windows.values()])
    model, asked = context.params.model(name), rows[together]
    try:
        answers = logged_answers.answers_of(context, name, version.package, asked, live, runtimes)
        of_rows = economic_loss.of_rows(model, asked["target"].to_numpy(), answers)
    except logged_answers.Incomparable as error:
        if len(windows) > 1:
            # Rows of one window may be what cannot be answered.
            each = [
                _losses(context, name, live, version, rows, weight, {window: mine}, runtimes)
                for window, mine in windows.items()
            ]
            return {w: v for found, _ in each for w, v in found.items()}, {
                w: v for _, why in each for w, v in why.items()
            }
        log.warning(
            "%s: version %s has no loss from %s on: %s", name, version.package.version, asked["event_time"].min(), error
        )
        return {}, dict.fromkeys(windows, str(error))
    found = {}
    for window, mine in windows.items():
        inside = mine[together]
        found[window] = float(np.average(of_rows[inside], weights=None if weight is None else weight[mine]))
    return found, {}


def _served(rows: pd.DataFrame, versions: Sequence[KeptVersion], live: LiveVersion) -> str:
    """The digest of the version that answered most of the rows; '' when it is none of these."""
    if not len(rows):
        return ""
    most = str(rows["version"].mode().iloc[0])
    found = [each.package.digest for each in versions if each.package.version == most]
    return live.digest if most == live.version else found[-1] if found else ""
