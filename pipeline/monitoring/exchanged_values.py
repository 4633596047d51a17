"""Whether two values of a category were exchanged, such as EWR and JFK: each row is asked by its other columns which of the two it fits.

As for two numbers (see pipeline.monitoring.exchanged): a logistic regression learns from rows of the reference how likely a row has the value that it
came with, from the numbers, their squares and the values of other categories. All that it sees changes its sign when the two are exchanged, and how
frequent the two are says nothing. The mean over a window is compared with those of the reference's own blocks; it must be over one half, and the rows, put
back, must fit at least half as well as the reference's. Where nothing goes with the two values, their exchange is seen by no window.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from pipeline.monitoring.exchanged import (
    FEWEST_NOW,
    FEWEST_ROWS,
    FOLDS,
    LEAST_BLOCKS,
    MOST_DEVIATION,
    Spread,
    reason_of,
    scores_of,
    spread_of,
    weights_of,
)

# Pairs grow with the square of the values. Of the others those that are frequent, or matter most, are enough.
MOST_PAIRS, MOST_VALUES, MOST_NUMBERS, MOST_INDICATORS = 24, 6, 10, 20
LEARNT_ROWS = 4_000
# Values whose shares differ more are told by their shares.
MOST_UNLIKE = 3.0
# Put back, a window fits at least so well as the reference, of which this is the share.
PUT_BACK = 0.5
# Of the rows with either value the rarer one has at least so many: a pair is at most three to one in the reference, and a column that has but one of
# the two is stuck there.
LEAST_SHARE = 0.02


@dataclass(frozen=True)
class Rows:
    """`numbers`, (rows, columns) float64 with NaN; `texts` has each category's values, (rows,) objects, None for a missing one; `blocks` (rows,)."""

    numbers: np.ndarray
    texts: dict[str, np.ndarray]
    blocks: np.ndarray


@dataclass(frozen=True)
class ValuePair:
    """What the reference says of two values of a column: the weights of what is seen of a row, where it is the middle of the two, and the score that
    they give."""

    column: str
    values: tuple[str, str]
    middle: tuple[float, ...]
    weights: tuple[float, ...]
    spread: Spread


@dataclass(frozen=True)
class ValueExchange:
    """Two values in a window: the mean probability that a row has them exchanged, its limit, and whether they are usual when put back."""

    column: str
    values: tuple[str, str]
    probability: float
    limit: float
    usual: bool

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def feature(self) -> str:
        return f"the values {self.values[0]} and {self.values[1]} of {self.column}"

    @property
    def moved(self) -> bool:
        return self.usual and self.probability > self.limit

    @property
    def reason(self) -> str:
        return reason_of(self.probability, self.limit, self.usual, "they do not fit either")


class ValueExchanges:
    """Of the rows of a reference, the blocks of which lie in the order of time."""

    def __init__(self, rows: Rows, known: Sequence[ValuePair] | None = None) -> None:
        """`known` is what was learnt from the same rows before."""
        values = np.where(np.isfinite(rows.numbers), rows.numbers, np.nan)
        there = [place for place in range(values.shape[1]) if np.isfinite(values[:, place]).sum() >= FEWEST_ROWS]
        self._places = there[:MOST_NUMBERS]
        some = values[:, self._places]
        with np.errstate(over="ignore"):
            # Numbers near the largest of all have no square.
            self._centre, self._spread = np.nanmean(some, axis=0), np.nanstd(some, axis=0)
        self._spread[self._spread == 0] = np.inf
        self._least, self._most = np.nanmin(some, axis=0), np.nanmax(some, axis=0)
        self._counts = {name: _counted(column) for name, column in rows.texts.items()}
        self._indicators = [(name, value) for name, counts in self._counts.items() for value, _ in counts[:-1]][
            :MOST_INDICATORS
        ]
        self.pairs = list(known) if known is not None else self._learnt(rows)

    def judged(self, now: Rows) -> list[ValueExchange]:
        """Of a window, for each pair that can be told apart and has enough rows. What goes with exchanged values fits others too: so the one after
        which all rows fit best, when it is put back, is told, and then those that are left."""
        told: list[ValueExchange] = []
        found = self._judged(now)
        while moved := [each for each in found if each.moved and each.column not in {of.column for of in told}]:
            best, now, found = min(((each, *self._after(now, each)) for each in moved), key=_unlike)
            told.append(best)
        names = {each.feature for each in told}
        return [*told, *(each for each in found if not each.moved and each.feature not in names)]

    def _after(self, now: Rows, exchange: ValueExchange) -> tuple[Rows, list[ValueExchange]]:
        """The rows with the two values put back, and what they show."""
        column = _put_back(now.texts[exchange.column], exchange.values)
        back = replace(now, texts={**now.texts, exchange.column: column})
        return back, self._judged(back)

    def _judged(self, now: Rows) -> list[ValueExchange]:
        found = []
        for pair in self.pairs:
            of = now.texts.get(pair.column)
            if of is None or pair.spread.alike:
                continue
            taken = np.isin(of, pair.values)
            if taken.sum() < FEWEST_NOW:
                continue
            seen = self._seen(now, pair.column, pair.values, taken, np.array(pair.middle))
            score = float(scores_of(seen, np.array(pair.weights)).mean())
            limit = (1 + pair.spread.limit(len(seen))) / 2
            rarer = min((of[taken] == value).mean() for value in pair.values)
            usual = -score <= PUT_BACK * pair.spread.mean and bool(rarer >= LEAST_SHARE)
            found.append(ValueExchange(pair.column, pair.values, (1 + score) / 2, limit, usual))
        return found

    def _learnt(self, rows: Rows) -> list[ValuePair]:
        found = []
        for column, values in self._candidates():
            taken = np.flatnonzero(np.isin(rows.texts[column], values))
            taken = taken[np.arange(min(len(taken), LEARNT_ROWS)) * len(taken) // min(len(taken), LEARNT_ROWS)]
            every = np.zeros(len(rows.blocks), bool)
            every[taken] = True
            blocks, of_row = np.unique(rows.blocks[every], return_inverse=True)
            if len(blocks) < LEAST_BLOCKS:
                continue
            seen = self._seen(rows, column, values, every, np.zeros(1))
            sign = np.where(rows.texts[column][every] == values[0], 1.0, -1.0)
            if len(np.unique(sign)) < 2:
                # Rows that come in turns may be taken all of one value.
                continue
            middle = _middle(seen * sign[:, None], sign)
            seen = seen - sign[:, None] * middle
            fold, scores = of_row * FOLDS // len(blocks), np.zeros(len(seen))
            for part in range(FOLDS):
                scores[fold == part] = scores_of(seen[fold == part], weights_of(seen[fold != part]))
            spread = spread_of(scores, of_row)
            found.append(ValuePair(column, values, tuple(middle), tuple(weights_of(seen)), spread))
        return found

    def _candidates(self) -> list[tuple[str, tuple[str, str]]]:
        """The pairs of values about as frequent as each other, the most frequent first."""
        found = []
        for column, counts in self._counts.items():
            frequent = [(value, rows) for value, rows in counts[:MOST_VALUES] if rows >= FEWEST_ROWS]
            for (one, more), (other, fewer) in combinations(frequent, 2):
                if more <= MOST_UNLIKE * fewer:
                    found.append((fewer, column, (one, other)))
        found.sort(key=lambda pair: -pair[0])
        return [(column, values) for _, column, values in found[:MOST_PAIRS]]

    def _standard(self, rows: Rows) -> np.ndarray:
        """The numbers, each less the mean of its block: a season moves all values of a category alike. One that the reference never came near
        says nothing."""
        some = rows.numbers[:, self._places]
        usual = (some >= self._least) & (some <= self._most)
        standard = np.where(usual, np.nan_to_num((some - self._centre) / self._spread), 0.0)
        _, of_row = np.unique(rows.blocks, return_inverse=True)
        for place in range(standard.shape[1]):
            counted = np.maximum(np.bincount(of_row, usual[:, place]), 1)
            standard[:, place] -= (np.bincount(of_row, standard[:, place]) / counted)[of_row]
        return np.clip(np.where(usual, standard, 0.0), -MOST_DEVIATION, MOST_DEVIATION)

    def _seen(
        self, rows: Rows, column: str, values: tuple[str, str], taken: np.ndarray, middle: np.ndarray
    ) -> np.ndarray:
        """What is seen of the rows `taken`: (rows, seen), which changes its sign with the value."""
        standard = self._standard(rows)[taken]
        of = {name: texts[taken] for name, texts in rows.texts.items()}
        none = np.zeros(len(standard))
        others = [
            (of[name] == value) * 1.0 if name in of and name != column else none for name, value in self._indicators
        ]
        sign = np.where(of[column] == values[0], 1.0, -1.0)
        return sign[:, None] * (np.column_stack([standard, standard**2, *others]) - middle)


def _unlike(after: tuple[ValueExchange, Rows, list[ValueExchange]]) -> tuple[int, float]:
    """How little rows fit after an exchange was put back."""
    found = after[2]
    return sum(each.moved for each in found), sum(each.probability for each in found)


def _put_back(column: np.ndarray, values: tuple[str, str]) -> np.ndarray:
    one, other = values
    return np.where(column == one, other, np.where(column == other, one, column))


def _counted(column: np.ndarray) -> list[tuple[str, int]]:
    """Each value with its rows, the most frequent first."""
    values, rows = np.unique(np.array([str(v) for v in column if v is not None], object), return_counts=True)
    order = sorted(zip(values.tolist(), rows.tolist(), strict=True), key=lambda each: (-each[1], each[0]))
    return order[: 2 * MOST_VALUES]


def _middle(without_sign: np.ndarray, sign: np.ndarray) -> np.ndarray:
    """Half way between the means of the two."""
    return (without_sign[sign > 0].mean(axis=0) + without_sign[sign < 0].mean(axis=0)) / 2


def as_lists(pairs: Iterable[ValuePair]) -> list[list[Any]]:
    """The pairs as JSON has them."""
    return [[p.column, *p.values, _rounded(p.middle), _rounded(p.weights), list(astuple(p.spread))] for p in pairs]


def of_lists(values: Iterable[Sequence[Any]]) -> list[ValuePair]:
    """What `as_lists` made. Raises ValueError or TypeError for what it did not make."""
    return [
        ValuePair(
            str(column),
            (str(one), str(other)),
            tuple(map(float, middle)),
            tuple(map(float, weights)),
            Spread(*map(float, spread)),
        )
        for column, one, other, middle, weights, spread in values
    ]


def _rounded(numbers: Sequence[float]) -> list[float]:
    return [float(f"{number:.6g}") for number in numbers]
