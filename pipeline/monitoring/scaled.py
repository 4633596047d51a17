"""Whether a number came in another unit: its values are likelier divided by a usual factor than as they came.

On a logarithmic scale a factor moves all values alike, so the reference's own counts in steps of that scale say how likely a value is, and how
likely it is divided. A row without the column, or with 0, says nothing; where most rows are 0, as of rain, the others are judged alone,
which no share of all rows shows. As for exchanged columns the mean probability must be over one half, and over what the reference's blocks
have, each judged by what the others say. One shower is no unit: a window needs some rows of different values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.monitoring.domain_classifier import Block
from pipeline.monitoring.exchanged import FOLDS, LEAST_BLOCKS, Spread, spread_of

# Seconds, minutes, hours; thousands; per cent.
FACTORS = (60.0, 3600.0, 1000.0, 100.0, 1 / 60, 1 / 3600, 1 / 1000, 1 / 100)
FEWEST_ROWS, FEWEST_VALUES = 20, 3
# Steps a doubling, and how many rows are added to each: what never came is not impossible.
STEPS, ADDED = 3, 0.5
# Factors that are as likely as the likeliest one, but for so much, are named with it.
AS_LIKELY = 0.05
# Beyond these a value is as far away as any.
LEAST, MOST = -180, 180


@dataclass(frozen=True)
class Scaled:
    """A column of a window: the mean probability that a row's value was multiplied by the first of `factors`, and its limit. The others are about as
    likely."""

    column: str
    factors: tuple[float, ...]
    probability: float
    limit: float

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def feature(self) -> str:
        return f"the unit of {self.column}"

    @property
    def moved(self) -> bool:
        return self.probability > self.limit

    @property
    def reason(self) -> str:
        by = " or ".join(f"multiplied by {f:g}" if f > 1 else f"divided by {1 / f:g}" for f in sorted(self.factors))
        told = f"a value is so with probability {self.probability:.2f}"
        return f"it looks {by}: {told}, {'over' if self.moved else 'within'} {self.limit:.2f}"


class Scales:
    """Of the rows of a reference: `block.values` are of the `columns`, `block.days` of any blocks."""

    def __init__(self, block: Block, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self._known: dict[str, tuple[np.ndarray, dict[float, Spread]]] = {}
        for place, name in enumerate(columns):
            steps, there = _steps(block.values[:, place])
            blocks, of_row = np.unique(block.days[there], return_inverse=True)
            if len(steps) >= FEWEST_ROWS and len(blocks) >= LEAST_BLOCKS:
                self._known[name] = _counted(steps), _spreads(steps, of_row, len(blocks))

    @property
    def alike(self) -> list[str]:
        """The columns of which no usual factor can be told."""
        return [name for name, (_, spreads) in self._known.items() if all(spread.alike for spread in spreads.values())]

    def judged(self, now: Block) -> list[Scaled]:
        """Of a window, for each column that has enough values the likeliest of the factors that can be told."""
        found = []
        for name, (counts, spreads) in self._known.items():
            values = now.values[:, self.columns.index(name)]
            steps, there = _steps(values)
            if len(steps) < FEWEST_ROWS or len(np.unique(values[there])) < FEWEST_VALUES:
                continue
            told = {f: _ratios(counts, steps, f) for f in spreads if not spreads[f].alike}
            if told:
                scores = {factor: float(np.tanh(ratios / 2).mean()) for factor, ratios in told.items()}
                best = max(told, key=lambda factor: float(told[factor].mean()))
                likely = (f for f in told if f != best and scores[f] >= scores[best] - 2 * AS_LIKELY)
                limit = spreads[best].limit(len(steps))
                found.append(Scaled(name, (best, *likely), (1 + scores[best]) / 2, (1 + limit) / 2))
        return found

    def unjudged(self, now: Block) -> list[str]:
        """The columns that say nothing of their unit in this window, since nearly all their values are 0."""
        few = []
        for name in self._known:
            values = now.values[:, self.columns.index(name)]
            _, there = _steps(values)
            zeros = bool((values == 0).any())
            if zeros and (there.sum() < FEWEST_ROWS or len(np.unique(values[there])) < FEWEST_VALUES):
                few.append(name)
        return few


def _steps(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place of each value on the scale, (values, 2) with its sign, and which rows have one."""
    there = np.isfinite(values) & (values != 0)
    some = values[there]
    return np.column_stack([np.log2(np.abs(some)) * STEPS, np.sign(some)]), there


def _counted(steps: np.ndarray) -> np.ndarray:
    """The share of the values in each step, (2, steps), those below 0 first. Neighbours have a part of it: no edge shall matter."""
    width = MOST - LEAST + 1
    places = _place(steps[:, 0])
    counts = np.array([np.bincount(places[steps[:, 1] == sign], minlength=width) for sign in (-1, 1)], float)
    smooth = counts.copy()
    for away in range(1, STEPS + 1):
        part = 1 - away / (STEPS + 1)
        smooth[:, away:] += part * counts[:, :-away]
        smooth[:, :-away] += part * counts[:, away:]
    return (smooth + ADDED) / (smooth + ADDED).sum()


def _place(steps: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(steps).astype(np.int64), LEAST, MOST) - LEAST


def _ratios(counts: np.ndarray, steps: np.ndarray, factor: float) -> np.ndarray:
    """The logarithm of how much likelier each value is divided by the factor: (values,)."""
    side = (steps[:, 1] > 0).astype(int)
    divided = counts[side, _place(steps[:, 0] - STEPS * np.log2(factor))]
    return np.log(divided / counts[side, _place(steps[:, 0])])


def _spreads(steps: np.ndarray, of_row: np.ndarray, blocks: int) -> dict[float, Spread]:
    fold = of_row * FOLDS // blocks
    counts = [_counted(steps[fold != part]) for part in range(FOLDS)]
    found = {}
    for factor in FACTORS:
        scores = np.zeros(len(steps))
        for part in range(FOLDS):
            scores[fold == part] = np.tanh(_ratios(counts[part], steps[fold == part], factor) / 2)
        found[factor] = spread_of(scores, of_row)
    return found
