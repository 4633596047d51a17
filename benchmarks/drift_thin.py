"""Drift against a reference with few rows a week: its limits beside those of whole weeks, and its false alarms.

A version from before profiles has its weeks of a sample, and traffic grows: a window then has ten to thirty times the rows of a reference
week, whose own chance is not the window's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmarks.drift_faults import CATEGORICAL, NUMERIC
from benchmarks.drift_look import LOOKS, REFERENCE_WEEKS, most_alarms
from benchmarks.limits import within_limit
from pipeline.monitoring.drift import DriftVerdict, Window, compare
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.monitoring.profiles.reference import Reference, reference_of
from pipeline.settings.models import DriftLimits

THIN_ROWS, SIZES, ORDERS = 200, (2_000, 6_000), 4
# Features that hardly differ from week to week: all of their limit was the chance of a reference's few rows.
STEADY = ("distance", "departure_hour", "scheduled_min")
# Of a limit, as a multiple of that from whole weeks.
MOST_WIDER = 3.0


def kept(weeks: Sequence[pd.DataFrame]) -> list[bool]:
    within = []
    for size in SIZES:
        alarms, found, looks, wider = 0, 0, 0, []
        for order in range(ORDERS):
            permuted = [weeks[number] for number in np.random.default_rng(order).permutation(len(weeks))]
            learnt, others = permuted[:REFERENCE_WEEKS], permuted[REFERENCE_WEEKS:]
            thin = _reference([week.sample(THIN_ROWS, random_state=1).sort_values("at") for week in learnt])
            whole = _reference(learnt)
            for number, week in enumerate(others):
                rows = week.sample(min(size, len(week)), random_state=number)
                verdict = _look(thin, rows)
                looks += 1
                alarms += verdict.verdict == "drift"
                shifted = rows.assign(scheduled_min=rows["scheduled_min"] + 0.2 * rows["scheduled_min"].std())
                found += _look(thin, shifted).verdict == "drift"
                if number == 0:
                    limits = [_limits(of) for of in (verdict, _look(whole, rows))]
                    wider.append([limits[0][name] / limits[1][name] for name in STEADY])
        what = f"{THIN_ROWS} rows a reference week, windows of {size:,}"
        times = np.median(wider, axis=0)
        print(
            f"{what}: limits are {', '.join(f'{t:.1f} ({n})' for n, t in zip(STEADY, times, strict=True))} times wider"
        )
        within.append(within_limit(f"times wider, {what}", float(np.median(times)), MOST_WIDER))
        within.append(within_limit(f"false alarms of {looks} looks, {what}", alarms, most_alarms(looks)))
        within.append(within_limit(f"found of a shift by 0.2 SD, {what}", found / looks, 0.95, at_least=True))
    return within


def _reference(learnt: Sequence[pd.DataFrame]) -> Reference:
    start = pd.Timestamp("2013-01-07", tz="UTC")
    times = [start + pd.Timedelta(weeks=i) + (week["at"] - week["at"].min()) for i, week in enumerate(learnt)]
    rows = pd.concat(learnt, ignore_index=True)
    return reference_of(rows, NUMERIC, CATEGORICAL, pd.concat(times, ignore_index=True))


def _look(reference: Reference, rows: pd.DataFrame) -> DriftVerdict:
    return compare(reference, Window(profile_of(rows, reference.layout), 7), DriftLimits(), LOOKS)


def _limits(verdict: DriftVerdict) -> dict[str, float]:
    """The limit of PSI, by feature."""
    return {feature.feature: feature.scores[0].limit or 0.0 for feature in verdict.features}
