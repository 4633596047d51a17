"""Whether two numbers were exchanged: each row is asked whether it is likelier as it came, or with the two the other way round.

A logistic regression learns, from rows of the reference and the same rows exchanged, how likely a row is an exchanged one. All that it
sees changes its sign when the two are exchanged (differences of both, of their squares, of their products with other columns, and of
whether each is among the values that the other has), so no row is learnt from twice. The mean probability of a window is compared with that
of the reference's own blocks, each judged by what the others say. It must be over one half, which says that the rows fit better
the other way round, so the hypothesis is a rare one without a change, and needs no share of the budget of false alarms. And put back, the two
must be where most rows of the reference were: a summer after a winter that was learnt from fits better exchanged, and fits neither way. Two columns that
are alike in all of this cannot be told apart, and are named as such.

Source: Sugiyama, Suzuki & Kanamori 2012, Density ratio estimation in machine learning, chapter 4 (a probabilistic classifier estimates the
ratio of two densities); variance components: Searle, Casella & McCulloch 1992, chapter 3.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import astuple, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from pipeline.monitoring.domain_classifier import Block

MEASURE = "exchanged"
# Pairs grow with the square of the columns; of the others those that say most of the two are enough.
MOST_COLUMNS, MOST_OTHERS = 24, 10
LEARNT_ROWS, FEWEST_ROWS, FEWEST_NOW = 10_000, 100, 20
LEAST_BLOCKS, FOLDS = 8, 4
# Of the mean of a window without an exchange, in its standard deviations.
DEVIATIONS = 5.0
MOST_DEVIATION = 5.0
# A window's mean is so many standard deviations of the reference's rows away at most, or it is not what was learnt from.
USUAL = 2.5
# A column with one value in so much more of the rows than usual is stuck: what it holds is no other column.
STUCK = 0.5
# A pair that so many rows do not tell apart is alike.
TOLD_ROWS = 1_000
# A column of so many different values is known by them.
LISTED_VALUES = 500
RIDGE, STEPS = 1e-3, 6
WEEK = 7
SEED = 20130101


@dataclass(frozen=True)
class Spread:
    """A score (from -1, as it came, to 1, otherwise) in a reference without the change: its mean, its largest value in a block, its variance between
    blocks and among the rows of one."""

    mean: float
    furthest: float
    between: float
    within: float

    def limit(self, rows: int) -> float:
        """The score that a window of so many rows must be over."""
        deviation = float(np.sqrt(self.between + self.within / max(rows, 1)))
        return min(max(0.0, self.mean + DEVIATIONS * deviation), (max(self.furthest, 0.0) + 1) / 2)

    @property
    def alike(self) -> bool:
        """Whether most windows with the change would be within the limit, if it turns the score's sign."""
        return -self.mean <= max(self.limit(TOLD_ROWS), DEVIATIONS * float(np.sqrt(self.within / TOLD_ROWS)))


@dataclass(frozen=True)
class Pair:
    """What the reference says of two columns: the weights of what is seen of a row, and the score that they give."""

    columns: tuple[str, str]
    weights: tuple[float, ...]
    spread: Spread


@dataclass(frozen=True)
class Exchange:
    """Two columns of a window: the mean probability that a row has them exchanged, its limit, and whether they are usual when put back."""

    columns: tuple[str, str]
    probability: float
    limit: float
    usual: bool = True

    @property
    def feature(self) -> str:
        return f"the places of {self.columns[0]} and {self.columns[1]}"

    @property
    def moved(self) -> bool:
        return self.usual and self.probability > self.limit

    @property
    def reason(self) -> str:
        return reason_of(self.probability, self.limit, self.usual, "they are not where the reference was")


def reason_of(probability: float, limit: float, usual: bool, unlike: str) -> str:
    """Why two columns or values look exchanged or not; `unlike` says of them that they are not usual when put back."""
    told = f"a row has them exchanged with probability {probability:.2f}"
    if probability <= limit:
        return f"{told}, within {limit:.2f}"
    return f"they look exchanged: {told}, over {limit:.2f}" if usual else f"{told}, but put back {unlike}"


class Exchanges:
    """Of the rows of a reference: `block.values` are of the `columns`, `block.days` of any blocks that lie in the order of time."""

    def __init__(self, block: Block, columns: Sequence[str], known: Sequence[Pair] | None = None) -> None:
        """`known` is what was learnt from the same rows before."""
        self.columns, random = tuple(columns), np.random.default_rng(SEED)
        taken = np.sort(random.permutation(len(block.days))[:LEARNT_ROWS])
        self._values, self._days = block.values[taken], block.days[taken]
        values = self._values
        there = [place for place in range(len(columns)) if np.isfinite(values[:, place]).sum() >= FEWEST_ROWS]
        self._places = {columns[place]: place for place in there}
        self._centre, self._spread = np.zeros(len(columns)), np.full(len(columns), np.inf)
        self._least, self._most = np.full(len(columns), np.inf), np.full(len(columns), -np.inf)
        self._listed: list[np.ndarray | None] = [None] * len(columns)
        for place in there:
            column = values[np.isfinite(values[:, place]), place]
            with np.errstate(over="ignore"):
                # Numbers near the largest of all have no square.
                self._centre[place], self._spread[place] = column.mean(), column.std() or np.inf
            self._least[place], self._most[place] = column.min(), column.max()
            different = np.unique(column)
            self._listed[place] = different if len(different) <= LISTED_VALUES else None
        standard = np.nan_to_num((values - self._centre) / self._spread)
        with np.errstate(all="ignore"):
            self._together = np.abs(np.nan_to_num(np.corrcoef(standard, rowvar=False)))
        pairs = known if known is not None else [self._learnt(values, pair) for pair in combinations(self._places, 2)]
        self.pairs = {pair.columns: pair for pair in pairs if pair is not None}

    @property
    def alike(self) -> list[tuple[str, str]]:
        """The pairs whose exchange no window shows."""
        return [pair.columns for pair in self.pairs.values() if pair.spread.alike]

    def judged(self, now: Block, pairs: Collection[tuple[str, str]] | None = None) -> list[Exchange]:
        """Of a window, for each pair (or each of `pairs`) that can be told apart and has enough rows of both."""
        found = []
        for columns, pair in self.pairs.items():
            if pair.spread.alike or (pairs is not None and columns not in pairs):
                continue
            seen, there = self._seen(now.values, columns)
            if len(seen) >= FEWEST_NOW:
                score = float(scores_of(seen, np.array(pair.weights)).mean())
                limit = (1 + pair.spread.limit(len(seen))) / 2
                probability = (1 + score) / 2
                usual = probability <= limit or self._usual_put_back(now.values, there, columns)
                found.append(Exchange(columns, probability, limit, usual))
        return found

    def _learnt(self, values: np.ndarray, columns: tuple[str, str]) -> Pair | None:
        """None where too few blocks have rows with both."""
        seen, there = self._seen(values, columns)
        blocks, of_row = np.unique(self._days[there], return_inverse=True)
        if len(seen) < FEWEST_ROWS or len(blocks) < LEAST_BLOCKS:
            return None
        fold = of_row * FOLDS // len(blocks)
        scores = np.zeros(len(seen))
        for part in range(FOLDS):
            scores[fold == part] = scores_of(seen[fold == part], weights_of(seen[fold != part]))
        return Pair(columns, tuple(weights_of(seen)), spread_of(scores, of_row))

    def _seen(self, values: np.ndarray, columns: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
        """What is seen of the rows that have both columns, (rows, seen), and which rows these are, bool."""
        first, second = (self._places[name] for name in columns)
        there = np.isfinite(values[:, first]) & np.isfinite(values[:, second])
        one, other = values[there, first], values[there, second]
        a, b = ((self._standard(one, place), self._standard(other, place)) for place in (first, second))
        seen = [a[0] - a[1], b[0] - b[1], a[0] ** 2 - a[1] ** 2, b[0] ** 2 - b[1] ** 2, a[0] * b[1] - a[1] * b[0]]
        for place, sign in ((first, 1.0), (second, -1.0)):
            if (listed := self._listed[place]) is not None:
                seen.append(sign * (np.isin(one, listed) * 1.0 - np.isin(other, listed)))
        others = self._others(values[there], first, second)
        return np.column_stack([*seen, seen[0][:, None] * others, seen[1][:, None] * others]), there

    def _usual_put_back(self, values: np.ndarray, there: np.ndarray, columns: tuple[str, str]) -> bool:
        """Whether each one's mean is where most rows of the other were, and none is stuck at a value that the other seldom has. The mean is that of
        the rows with both, which are `there`. Stuck is a column in all of its rows: those with both may be of one hour, which has one value."""
        first, second = (self._places[name] for name in columns)
        return all(
            abs(column[there].mean() - self._centre[place]) <= USUAL * self._spread[place]
            and not self._stuck(column[np.isfinite(column)], place)
            for column, place in ((values[:, second], first), (values[:, first], second))
        )

    def _stuck(self, values: np.ndarray, place: int) -> bool:
        """Whether a value is in more of these rows than in the reference's, by over half of all."""
        different, counts = np.unique(values, return_counts=True)
        most = int(counts.argmax())
        before = self._values[np.isfinite(self._values[:, place]), place]
        return float(counts[most] / len(values) - (before == different[most]).mean()) > STUCK

    def _standard(self, values: np.ndarray, place: int) -> np.ndarray:
        deviations = (values - self._centre[place]) / self._spread[place]
        return np.clip(deviations, -MOST_DEVIATION, MOST_DEVIATION)

    def _others(self, values: np.ndarray, first: int, second: int) -> np.ndarray:
        """The columns that say most of the two. A value that the reference never came near says nothing: another column's fault is not
        this pair's."""
        says = np.maximum(self._together[first], self._together[second])
        places = [place for place in np.argsort(-says, kind="stable") if place not in (first, second)][:MOST_OTHERS]
        column = values[:, places]
        usual = (column >= self._least[places]) & (column <= self._most[places])
        return np.where(usual, np.nan_to_num((column - self._centre[places]) / self._spread[places]), 0.0)


def spread_of(scores: np.ndarray, of_row: np.ndarray) -> Spread:
    """Of the scores of a reference's rows, (rows,), the blocks of which are numbered from 0."""
    rows = np.bincount(of_row)
    means = np.bincount(of_row, scores) / rows
    within = float(((scores - means[of_row]) ** 2).sum() / max(len(scores) - len(rows), 1))
    between = max(float(means.var(ddof=1)) - within * float(np.mean(1 / rows)), 0.0)
    return Spread(float(means.mean()), float(means.max()), between, within)


def weights_of(seen: np.ndarray) -> np.ndarray:
    """Of a logistic regression without an intercept, by Newton's method, with a ridge on columns of one scale."""
    scale = np.sqrt((seen**2).mean(axis=0))
    scaled = seen / np.where(scale > 0, scale, 1.0)
    weights = np.zeros(seen.shape[1])
    ridge = RIDGE * np.eye(len(weights))
    for _ in range(STEPS):
        wrong = 1 / (1 + np.exp(np.clip(scaled @ weights, -30, 30)))
        slope = scaled.T @ wrong / len(seen) - RIDGE * weights
        bend = (scaled * (wrong * (1 - wrong))[:, None]).T @ scaled / len(seen) + ridge
        weights = weights + np.linalg.solve(bend, slope)
    return weights / np.where(scale > 0, scale, 1.0)


def scores_of(seen: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The probability that a row has the two exchanged, less that it has not: (rows,), from -1 to 1."""
    return -np.tanh(np.clip(seen @ weights, -30, 30) / 2)


def as_lists(pairs: Iterable[Pair]) -> list[list[Any]]:
    """The pairs as JSON has them."""
    return [[*p.columns, [float(f"{w:.6g}") for w in p.weights], list(astuple(p.spread))] for p in pairs]


def of_lists(values: Iterable[Sequence[Any]]) -> list[Pair]:
    """What `as_lists` made. Raises ValueError or TypeError for what it did not make."""
    return [
        Pair((str(first), str(second)), tuple(map(float, weights)), Spread(*map(float, spread)))
        for first, second, weights, spread in values
    ]
