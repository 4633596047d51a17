"""What the measures say of windows without drift: the reference's own weeks, drawn again and again to the size of the window.

Rows come in bunches (weeks, storms, campaigns), so that limits from independent rows alarm on a third to two thirds of quiet windows. Weeks
that are drawn whole keep the bunches; each draw is compared with the weeks that were not drawn. A window of less than four weeks that are not
whole has some weekdays more often than others: it is drawn as runs of so many neighbouring days. Each draw is thinned to the rows of the window; of one with fewer rows the chance is taken out that
the window does not have (see week_noise). It is all arithmetic on profiles.

Source: Künsch 1989, The jackknife and the bootstrap for general stationary observations (blocks); the largest of standardised measures
as one statistic: Westfall & Young 1993, Resampling-based multiple testing.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterator
from datetime import date, timedelta

import numpy as np

from pipeline.monitoring.profiles.layout import ColumnLayout
from pipeline.monitoring.profiles.profile import Profile
from pipeline.monitoring.profiles.reference import MOST_DAYS, Reference
from pipeline.monitoring.week_noise import at_size

SEED = 20130101
LEAST_DRAWS, MOST_DRAWS = 600, 20_000
# So many draws beyond the limit are needed to say where it is.
BEYOND = 6
WEEK = 7
# Of more weeks the days that are over matter little.
FEW_WEEKS = 4
# With rows in a smaller share of the weeks, rows come in loads, and a week is no part of a window.
MOST_WEEKS = 0.75
# The reference's blocks that a limit can be believed from.
PROVEN_WEEKS = 26


def draws_for(share: float) -> int:
    """How many draws show where a share of them lies beyond."""
    return int(min(max(LEAST_DRAWS, math.ceil(BEYOND / share)), MOST_DRAWS))


class Draws:
    """Windows like `now`, which spans so many days, from a reference that is not empty. Where `now` is compared with the days `against` alone, each
    draw is compared with as many other weeks."""

    def __init__(
        self,
        reference: Reference,
        now: Profile,
        span_days: float | None,
        draws: int,
        against: Collection[date] | None = None,
    ) -> None:
        self._now, self._random = now, np.random.default_rng(SEED)
        days = list(reference.days)
        run = _run(days, span_days)
        blocks = _blocks(days, run)
        drawn = len(blocks) - _cut_weeks(days, blocks, run)
        blocks_in = _blocks_in(reference, now, span_days, blocks, run)
        chosen = self._random.integers(0, drawn, (draws, blocks_in))
        times = np.zeros((draws, len(blocks)))
        np.add.at(times, (np.arange(draws)[:, None], chosen), 1)
        some = _some_weeks(self._random, times, len(against) / len(days)) if against is not None else None
        self._sums, self._blocks, self._times = _Sums(times, some, blocks), blocks[:drawn], times[:, :drawn]

    def of(self, part: Reference) -> Iterator[tuple[ColumnLayout, np.ndarray, np.ndarray]]:
        """For each column of a part of the reference the counts of what each window is compared with, and of the window: (draws, cells) each. A
        column at a time, since 20,000 draws of hundreds of columns at once are gigabytes."""
        random, end = copy.deepcopy(self._random), 0
        by_part = self._sums.parts(part.by_day)
        for column in part.layout.columns:
            start, end = end, end + column.cells
            before, window = self._sums.of(by_part[:, start:end])
            rows, of_blocks = self._now.rows_of(column), self._blocks @ part.by_day[:, start:end]
            yield column, before, _thinned(random, at_size(window, of_blocks, self._times, rows), rows)


class _Sums:
    """The counts of what each window is compared with, and of the window itself.

    A window has each block so many `times`, and is compared with the days that are in none of these; where `some` blocks are given, with those of
    their days alone. All are whole numbers, so that each way to add them gives the same.
    """

    def __init__(self, times: np.ndarray, some: np.ndarray | None, blocks: np.ndarray) -> None:
        # Where each day is of one block, a block is added up once, and not for each draw.
        self._blocks = blocks if (blocks.sum(axis=0) == 1).all() else None
        taken = times
        if self._blocks is None:
            taken, some = times @ blocks, some @ blocks > 0 if some is not None else None
        others = taken == 0 if some is None else (taken == 0) & some
        self._alone = ~others.any(axis=1)
        self._taken, self._all_others = _times(taken), some is None
        # A window has few days, and where all others count these are all but them: those of the window itself where each is in it once.
        self._once = self._all_others and bool(taken.max() <= 1)
        self._others = None if self._once else _times(~others if some is None else others)

    def parts(self, by_day: np.ndarray) -> np.ndarray:
        """What is added up: the counts of blocks, or of days."""
        return by_day if self._blocks is None else self._blocks @ by_day

    def of(self, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(compared with, window), float64 (draws, cells) each, of some cells of `parts`."""
        parts = np.ascontiguousarray(parts)
        window, whole = self._taken(parts), parts.sum(axis=0)
        before = window if self._others is None else self._others(parts)
        before = whole - before if self._all_others else before
        before[self._alone] = whole
        return before, window


def _times(counts: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The product of these counts, (draws, parts), with (parts, cells): without the zeros where these are most."""
    if 8 * np.count_nonzero(counts) < counts.size:
        from scipy.sparse import csr_array

        return csr_array(counts.astype(float)).__matmul__
    return counts.astype(float).__matmul__


def weeks_of(days: Collection[date]) -> int:
    """How many weeks have one of the days, counted back from the newest one."""
    newest = max(days, default=None)
    return len({(newest - at).days // WEEK for at in days}) if newest else 0


def by_weeks_alone(days: Collection[date]) -> bool:
    """Whether a reference of years has no day by itself, as those of versions that were made before the newest days were kept."""
    ordinals = np.array([at.toordinal() for at in days])
    steps = np.diff(ordinals)
    return bool(steps.sum() >= MOST_DAYS and not (steps % WEEK).any())


def _thinned(random: np.random.Generator, counts: np.ndarray, rows: int) -> np.ndarray:
    """So many rows of each drawn window, without replacement: the window is a sample already, and has its own chance in it.

    Poisson counts are multinomial ones, given their sum. Their deviations are made as small as those of draws without replacement.
    """
    drawn_rows = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # Cells that no draw has rows in take no chance: of a sliced look that is a third of them.
    there = counts.any(axis=0)
    expected = counts[:, there] * (rows / drawn_rows)
    deviation = random.poisson(expected) - expected
    deviation *= np.sqrt(np.maximum(1 - rows / drawn_rows, 0))
    deviation += expected
    thinned = np.zeros(counts.shape)
    thinned[:, there] = np.maximum(deviation, 0, out=deviation)
    return thinned


def _run(days: list[date], span_days: float | None) -> int:
    """How many neighbouring days are drawn together for a window of `span_days`: a week, or those of a part of it that is near to one; where many weeks
    have no row, as of a load a month, all of it."""
    if span_days is None or by_weeks_alone(days):
        return WEEK
    if span_days < WEEK:
        return max(1, math.ceil(span_days))
    if _weeks_with_rows(days) < MOST_WEEKS:
        run = math.ceil(span_days)
    elif span_days >= FEW_WEEKS * WEEK:
        return WEEK
    else:
        run = math.ceil(span_days / round(span_days / WEEK))
    return run if (days[-1] - days[0]).days + 1 >= FEW_WEEKS * run else WEEK


def _weeks_with_rows(days: list[date]) -> float:
    """The share of the weeks from the oldest day to the newest that have any row."""
    return weeks_of(days) / ((days[-1] - days[0]).days // WEEK + 1)


def _blocks(days: list[date], run: int) -> np.ndarray:
    """Which days each block that can be drawn has, of weeks the newest first: (blocks, days) of 0 and 1."""
    ordinals = np.array([at.toordinal() for at in days])
    if run != WEEK:
        # Of those that are kept by weeks a day cannot be drawn. A window may begin on a day without rows, and so have fewer of a load a week.
        starts = np.arange(max(ordinals[0], ordinals[-1] - MOST_DAYS + 1), ordinals[-1] - run + 2)
        starts = starts if len(starts) else ordinals[:1]
        found = (ordinals >= starts[:, None]) & (ordinals < starts[:, None] + run)
        return found[found.any(axis=1)].astype(float)
    # Counted back from the end, since the newest days are whole. A first week of a few days goes to its neighbour.
    week = (ordinals[-1] - ordinals) // WEEK
    if len(set(week)) > 1 and (week == week.max()).sum() < WEEK / 2:
        week = np.minimum(week, sorted(set(week))[-2])
    return (week == np.unique(week)[:, None]).astype(float)


def _cut_weeks(days: list[date], blocks: np.ndarray, run: int) -> int:
    """How many of the oldest blocks are not drawn. A first week that is not whole lacks some weekdays, and is none where there are others: like no
    other week, it would widen the limits of all columns."""
    whole = ((days[-1] - days[0]).days + 1) % WEEK == 0
    return 0 if whole or run != WEEK or len(blocks) <= FEW_WEEKS else 1


def _blocks_in(reference: Reference, now: Profile, span_days: float | None, blocks: np.ndarray, run: int) -> int:
    """How many blocks a window has. Without times it is as many as have its rows; at most half of all, so that others are left."""
    number, days = blocks.shape
    by_rows = now.rows * number / max(reference.rows, 1)
    # Where weeks without rows are no blocks, a window of weeks has fewer.
    there = _weeks_with_rows(list(reference.days)) if run == WEEK else 1
    wanted = by_rows if span_days is None else there * span_days / run
    return max(1, min(round(wanted), number // 2 if run == WEEK else days // (2 * run)))


def _some_weeks(random: np.random.Generator, times: np.ndarray, share: float) -> np.ndarray:
    """For each draw that share of the blocks, at random among those that are not in it: (draws, blocks) of truth."""
    order = np.where(times > 0, np.inf, random.random(times.shape)).argsort(axis=1).argsort(axis=1)
    return order < max(1, round(share * times.shape[1]))


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
