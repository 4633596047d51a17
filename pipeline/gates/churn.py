"""How many recorded live requests would be decided otherwise?

The newest rows of the live version's prediction log are answered by both packages. A decision flips when the two answers lie on different
sides: of 0.5, of another class, or of the live version's median for a number. A flip is no fault, but whoever acts on decisions should not
be surprised: a rollout aborts by the same limit, `rollout.limits.churn`, an hour later.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.gates.base import PackagedModel, Table, Verdict
from pipeline.gates.row_groups import groups_of
from pipeline.serving import comparable
from pipeline.settings.gates import Mode
from pipeline.training.tasks import TASKS, Answers

# The normal deviate of a 95 % interval.
DEVIATE = 1.96


def verdict(packaged: PackagedModel) -> Verdict | None:
    """None for a backfill, without a champion, and where neither limit is set. Passes without a verdict where too few rows are recorded."""
    settings, live = packaged.model.gates.churn, packaged.live
    limit = packaged.model.rollout.limits.churn if settings.limit is None else settings.limit
    if packaged.backfill or packaged.champion is None or live is None or limit is None:
        return None
    why = live.no_requests if live.requests is None else _incomparable(packaged, live.requests)
    requests = live.requests
    if why or requests is None or len(requests) < settings.min_rows:
        rows = 0 if requests is None else len(requests)
        why = why or f"{rows:,} requests recorded, at least {settings.min_rows:,} required (gates.churn.min_rows)"
        return Verdict("churn", True, 0.0, limit, why, judged=False)
    flips = flipped(packaged, requests)
    share, interval = float(flips.mean()), _interval(float(flips.mean()), len(flips))
    key = "rollout.limits.churn" if settings.limit is None else "gates.churn.limit"
    reason = (
        f"{share:.1%} of the {len(flips):,} newest live requests would be decided otherwise than by version {packaged.champion_version}, "
        f"at most {limit:.0%} ({key})"
    )
    by_slice = _by_slice(packaged, requests, flips)
    if by_slice:
        name, _, most = max(by_slice, key=lambda row: row[2])
        reason += f"; most in {name}, {most:.1%}"
    table = Table(("slice", "requests", "flipped"), (("all", len(flips), share), *by_slice))
    mode: Mode = "warn" if settings.limit is None else "on"
    return Verdict("churn", not (share > limit), share, limit, reason, interval, mode=mode, table=table)


def flipped(packaged: PackagedModel, requests: pd.DataFrame) -> np.ndarray:
    """Whether the decision on each request flips, bool (rows,)."""
    champion, package = packaged.champion, packaged.package
    assert champion is not None
    before = Answers(champion.predict_logged(requests), champion.classes)
    now = Answers(package.predict_logged(requests), package.classes)
    side_of = TASKS[champion.task].sides(before)
    return side_of(before)[:, 0] != side_of(now)[:, 0]


def _incomparable(packaged: PackagedModel, requests: pd.DataFrame) -> str:
    """Why both versions cannot answer these rows; '' when they can."""
    champion, package = packaged.champion, packaged.package
    assert champion is not None
    if champion.task != package.task or champion.classes != package.classes:
        return f"version {packaged.champion_version} is of another task, or has other classes"
    for each, whose in ((champion, f"version {packaged.champion_version}"), (package, "the new version")):
        if lacking := comparable.lacking(each.reader.schema, requests.columns, requests.columns):
            return f"the prediction log has not what {whose} needs: {', '.join(lacking)}"
    if rounded := package.reader.doubles - champion.reader.doubles:
        return f"the log has {', '.join(sorted(rounded))} rounded to float32, and the new version takes float64"
    return comparable.unlike_times(champion.reader.schema, package.reader.schema)


def _interval(share: float, rows: int) -> tuple[float, float]:
    """Wilson 1927: requests count as independent, so it is the narrowest that is true."""
    squared = DEVIATE**2 / rows
    middle = (share + squared / 2) / (1 + squared)
    half = DEVIATE * float(np.sqrt(share * (1 - share) / rows + squared / (4 * rows))) / (1 + squared)
    return max(0.0, middle - half), min(1.0, middle + half)


def _by_slice(packaged: PackagedModel, requests: pd.DataFrame, flips: np.ndarray) -> list[tuple[str, int, float]]:
    """(slice, requests, share that flips) of each slice that is large enough: of `gates.slices.columns` as far as the log has them, else
    of the categories."""
    settings, training = packaged.model.gates, packaged.model.training
    columns = [column for column in settings.slices.columns or training.categorical if column in requests.columns]
    large = [group for column in columns for group in groups_of(requests, column, settings.churn.min_rows)]
    return [(str(group), int(group.rows.sum()), float(flips[group.rows].mean())) for group in large]
