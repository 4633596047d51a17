"""What the measures say of windows without drift: the reference's own weeks, drawn again and again to the size of the window.

Rows come in bunches (weeks, storms, campaigns), so that limits from independent rows alarm on a third to two thirds of quiet windows. Weeks
that are drawn whole keep the bunches; each draw is compared with the weeks that were not drawn. A window of less than a week is
drawn as so many neighbouring days. Each draw is thinned to the rows of the window; of one with fewer rows the chance is taken out that
the window does not have (see week_noise). It is all arithmetic on profiles.

Source: Künsch 1989, The jackknife and the bootstrap for general stationary observations (blocks); the largest of standardised measures
as one statistic: Westfall & Young 1993, Resampling-based multiple testing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from pipeline.monitoring.profiles.profile import Profile
from pipeline.monitoring.profiles.reference import Reference
from pipeline.monitoring.week_noise import at_size

SEED = 20130101
LEAST_DRAWS, MOST_DRAWS = 600, 20_000
# So many draws beyond the limit are needed to say where it is.
BEYOND = 6
WEEK = 7
# The reference's blocks that a limit can be believed from.
PROVEN_WEEKS = 26


@dataclass(frozen=True)
class Draws:
    """For each column the counts of the drawn windows and of what each is compared with: (draws, cells) each."""

    before: Mapping[str, np.ndarray]
    now: Mapping[str, np.ndarray]


def draws_for(share: float) -> int:
    """How many draws show where a share of them lies beyond."""
    return int(min(max(LEAST_DRAWS, math.ceil(BEYOND / share)), MOST_DRAWS))


def drawn(
    reference: Reference, now: Profile, span_days: float | None, draws: int, against: Collection[date] | None = None
) -> Draws:
    """Windows like `now`, which spans so many days, from a reference that is not empty. Where `now` is compared with the days `against`
    alone, each draw is compared with as many other weeks."""
    random = np.random.default_rng(SEED)
    days = list(reference.days)
    blocks = _blocks(days, span_days)
    chosen = random.integers(0, len(blocks), (draws, _blocks_in(reference, now, span_days, len(blocks))))
    times = np.zeros((draws, len(blocks)))
    np.add.at(times, (np.arange(draws)[:, None], chosen), 1)
    taken = times @ blocks
    others = taken == 0
    if against is not None:
        others &= _some_weeks(random, times, blocks, len(against) / len(days)) > 0
    others[~others.any(axis=1)] = True
    # All columns side by side: two products of matrices in all.
    columns = reference.layout.columns
    before, window = others @ reference.by_day, taken @ reference.by_day
    of_blocks = blocks @ reference.by_day
    ends = np.cumsum([0, *(column.cells for column in columns)])
    of_now = {}
    for column, start, end in zip(columns, ends, ends[1:], strict=False):
        rows = now.rows_of(column)
        counts = at_size(window[:, start:end], of_blocks[:, start:end], times, rows)
        of_now[column.name] = _thinned(random, counts, rows)
    of_before = {c.name: before[:, start:end] for c, start, end in zip(columns, ends, ends[1:], strict=False)}
    return Draws(of_before, of_now)


def weeks_of(days: Collection[date]) -> int:
    """How many weeks the days reach over."""
    return -(-((max(days) - min(days)).days + 1) // WEEK) if days else 0


def _thinned(random: np.random.Generator, counts: np.ndarray, rows: int) -> np.ndarray:
    """So many rows of each drawn window, without replacement: the window is a sample already, and has its own chance in it.

    Poisson counts are multinomial ones, given their sum. Their deviations are made as small as those of draws without replacement.
    """
    drawn_rows = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    expected = counts * (rows / drawn_rows)
    deviation = (random.poisson(expected) - expected) * np.sqrt(np.maximum(1 - rows / drawn_rows, 0))
    return np.maximum(expected + deviation, 0)


def _blocks(days: list[date], span_days: float | None) -> np.ndarray:
    """Which days each block that can be drawn has: (blocks, days) of 0 and 1."""
    ordinals = np.array([at.toordinal() for at in days])
    if span_days is not None and span_days < WEEK:
        span = max(1, math.ceil(span_days))
        starts = ordinals[ordinals <= ordinals[-1] - span + 1]
        starts = starts if len(starts) else ordinals[:1]
        return ((ordinals >= starts[:, None]) & (ordinals < starts[:, None] + span)).astype(float)
    # Counted back from the end, since the newest days are whole. A first week of a few days goes to its neighbour.
    week = (ordinals[-1] - ordinals) // WEEK
    if len(set(week)) > 1 and (week == week.max()).sum() < WEEK / 2:
        week = np.minimum(week, sorted(set(week))[-2])
    return (week == np.unique(week)[:, None]).astype(float)


def _blocks_in(reference: Reference, now: Profile, span_days: float | None, blocks: int) -> int:
    """How many blocks a window has. Without times it is as many as have its rows; at most half of all, so that others are left."""
    by_rows = now.rows * blocks / max(reference.rows, 1)
    wanted = by_rows if span_days is None else span_days / WEEK
    return max(1, min(round(wanted), blocks // 2))


def _some_weeks(random: np.random.Generator, times: np.ndarray, blocks: np.ndarray, share: float) -> np.ndarray:
    """For each draw the days of that share of the blocks, at random among those that are not in it."""
    order = np.where(times > 0, np.inf, random.random(times.shape)).argsort(axis=1).argsort(axis=1)
    return (order < max(1, round(share * len(blocks)))) @ blocks


def season_before(reference: Reference, start: date, end: date) -> list[date]:
    """The reference's days around [start, end) a year (52 weeks) earlier, two weeks on either side; none where it does not reach back so
    far, or where the window is itself of that time."""
    year, around = timedelta(weeks=52), timedelta(weeks=2)
    first, last = start - year - around, end - year + around
    days = list(reference.days)
    if not reference.timed or not days or days[0] > first or days[-1] < last or days[-1] > start:
        return []
    found = [at for at in days if first <= at < last]
    return found if len({at.toordinal() // WEEK for at in found}) >= 4 else []
